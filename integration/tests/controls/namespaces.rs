//! `namespaces`: nothing of the host's is shared.

use crate::{check, errno, hardens, refused};
use integration::{Bundle, Case, Container, Policy};

const fn missing(name: &'static str, prepare: fn(&mut Bundle)) -> Case {
    Case {
        control: "namespaces",
        name,
        prepare,
        act: "cwd",
        expect: refused("namespaces."),
        covered_by: &[],
    }
}

pub(crate) const CASES: &[Case] = &[
    missing("no-pid", |b| {
        b.config.without_namespace("pid");
    }),
    missing("no-ipc", |b| {
        b.config.without_namespace("ipc");
    }),
    missing("no-uts", |b| {
        b.config.without_namespace("uts").remove("/hostname");
    }),
    // sysfs shows the host's devices too where the network is the host's; that runs, so only namespaces objects.
    missing("no-network", |b| {
        b.config.without_namespace("network");
    }),
    missing("host-network-by-path", |b| {
        b.config
            .namespace_path("network", &format!("/proc/{}/ns/net", std::process::id()));
    }),
    Case {
        control: "namespaces",
        name: "cgroup-namespace-added",
        prepare: |_| {},
        act: "see-cgroup=git-namespaces",
        expect: errno("ENOENT"),
        covered_by: &[],
    },
];

#[test]
fn each_alone() {
    check(CASES);
}

#[test]
fn a_joined_namespace_that_is_not_the_hosts_is_kept() {
    if !hardens() {
        return;
    }
    let first = Container::new(Bundle::new("join-first")).policy(&Policy::hardened());
    first.run_detached().ok();
    let mut bundle = Bundle::new("join-second");
    bundle
        .config
        .namespace_path("network", &format!("/proc/{}/ns/net", first.pid()));
    let mut second = Container::new(bundle).policy(&Policy::hardened());
    let here = second.acts(&["namespace=net"]);
    let there = first.exec_acts(&["namespace=net"]);
    assert_eq!(here.answer("namespace=net"), there["namespace=net"]);
}

#[test]
fn a_namespace_path_of_another_kind_is_refused() {
    if !hardens() {
        return;
    }
    let first = Container::new(Bundle::new("kind-first")).policy(&Policy::hardened());
    first.run_detached().ok();
    let mut bundle = Bundle::new("kind-second");
    bundle
        .config
        .namespace_path("network", &format!("/proc/{}/ns/uts", first.pid()));
    Container::new(bundle)
        .policy(&Policy::hardened())
        .run()
        .fails_with(1)
        .says(&["namespaces."]);
}

/// A new UTS namespace begins with the names of the one it was made in.
#[test]
fn a_container_without_a_name_does_not_show_the_hosts() {
    let named = |policy: &Policy, name: serde_json::Value| {
        let mut bundle = Bundle::with_busybox("namespaces-name");
        bundle.config.set("/hostname", name);
        let container = Container::new(bundle).policy(policy);
        container.run_detached().ok();
        let shown = container.exec(&["cat", "/proc/sys/kernel/hostname"]).ok().out;
        (container.id().to_owned(), shown.trim().to_owned())
    };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for name in [serde_json::json!(""), serde_json::json!(null)] {
        assert_eq!(named(&Policy::permissive(), name.clone()).1, host.trim());
        if hardens() {
            let (id, shown) = named(&Policy::hardened(), name);
            assert_eq!(shown, id);
        }
    }
}
