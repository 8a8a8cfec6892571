//! `mounts`: what is writable is not executable, and the host's own places stay the host's.

use crate::{check, errno, hardens, refused};
use integration::{Bundle, Case, Container, Policy};
use std::os::unix::fs::PermissionsExt as _;

fn data(bundle: &mut Bundle, options: &[&str]) {
    let host = bundle.host_dir("data");
    std::fs::create_dir_all(bundle.rootfs().join("data")).unwrap();
    bundle.config.bind(host.to_str().unwrap(), "/data", options);
}

fn host_path(bundle: &mut Bundle, path: &str) {
    std::fs::create_dir_all(bundle.rootfs().join("host")).unwrap();
    bundle.config.bind(path, "/host", &["ro"]);
}

const fn sensitive(name: &'static str, prepare: fn(&mut Bundle)) -> Case {
    Case {
        control: "mounts",
        name,
        prepare,
        act: "cwd",
        expect: refused("mounts."),
        covered_by: &[],
    }
}

pub(crate) const CASES: &[Case] = &[
    // All containers share what kernel.pty.max leaves them.
    Case {
        control: "mounts",
        name: "terminals",
        prepare: |_| {},
        act: "open-terminals=300",
        expect: errno("ENOSPC"),
        covered_by: &[],
    },
    Case {
        control: "mounts",
        name: "noexec-on-writable",
        prepare: |b| data(b, &["rw"]),
        act: "exec-file=/data/dropped",
        expect: errno("EACCES at exec"),
        covered_by: &["landlock"],
    },
    Case {
        control: "mounts",
        name: "nodev",
        prepare: |b| {
            data(b, &["rw"]);
            let node = nix::sys::stat::makedev(1, 5);
            let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
            let path = b.dir.join("data/zero");
            nix::sys::stat::mknod(&path, nix::sys::stat::SFlag::S_IFCHR, mode, node).unwrap();
        },
        act: "open-device=/data/zero",
        expect: errno("EACCES"),
        covered_by: &[],
    },
    Case {
        control: "mounts",
        name: "noexec-on-shm",
        prepare: |b| {
            b.config
                .mount_options("/dev/shm", &["nosuid", "nodev", "mode=1777", "size=65536k"]);
        },
        act: "exec-file=/dev/shm/dropped",
        expect: errno("EACCES at exec"),
        covered_by: &["landlock"],
    },
    sensitive("host-root", |b| host_path(b, "/")),
    sensitive("host-etc", |b| host_path(b, "/etc")),
    sensitive("host-proc", |b| host_path(b, "/proc")),
    sensitive("host-dev", |b| host_path(b, "/dev")),
    sensitive("host-var-run", |b| host_path(b, "/var/run")),
    sensitive("symlink-to-etc", |b| {
        let link = b.dir.join("innocent");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        host_path(b, link.to_str().unwrap());
    }),
    sensitive("etc-by-dots", |b| host_path(b, "/usr/../etc")),
];

#[test]
fn each_alone() {
    check(CASES);
}

/// Not a row of the table: with the control off this would mount the host's disk.
#[test]
fn a_block_device_file_system_is_refused() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("mounts-ext4");
    bundle.config.mount("/host", "ext4", "/dev/vda", &["ro"]);
    Container::new(bundle)
        .policy(&Policy::hardened())
        .run()
        .fails_with(1)
        .says(&["mounts."]);
}

#[test]
fn the_operators_exec_is_kept() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("mounts-exec");
    data(&mut bundle, &["rw", "exec"]);
    let only = Policy::permissive().enforce("mounts");
    Container::new(bundle)
        .policy(&only)
        .acts(&["exec-file=/data/x"])
        .ok("exec-file=/data/x");
}

#[test]
fn a_workload_on_a_noexec_mount_is_refused_at_create_with_the_remedy() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("mounts-args0");
    data(&mut bundle, &["rw"]);
    std::fs::copy(integration::binaries::probe(), bundle.dir.join("data/app")).unwrap();
    bundle.config.args(&["/data/app", "cwd"]);
    let container = Container::new(bundle).policy(&Policy::hardened());
    container.create().fails_with(1).says(&["mounts.", "/data", "remedy"]);
    container.nothing_left();
}

#[test]
fn dev_null_opens_in_a_hardened_container() {
    if !hardens() {
        return;
    }
    let acts = [
        "open-device=/dev/null",
        "write-file=/dev/null",
        "open-device=/dev/zero",
        "open-device=/dev/urandom",
    ];
    let outcome = Container::new(Bundle::new("mounts-dev"))
        .policy(&Policy::hardened())
        .acts(&acts);
    outcome.all_ok(&acts);
}

/// As a kubelet wants it with `hostUsers: false`: the pod's sandbox has the user namespace, its containers join it, and a
/// volume that other pods use with other ids keeps its owners.
#[test]
fn a_volume_keeps_its_owners_in_the_user_namespace_of_a_pod() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("idmap-sandbox");
    bundle.give_to(100_000, 200_000);
    bundle.config.user_namespace(65536);
    let sandbox = Container::new(bundle).policy(&Policy::hardened());
    sandbox.run_detached().ok();

    let mut bundle = Bundle::with_busybox("idmap-container");
    bundle.give_to(100_000, 200_000);
    let volume = bundle.host_dir("volume");
    std::fs::write(volume.join("mine"), "").unwrap();
    std::os::unix::fs::chown(volume.join("mine"), Some(1000), Some(1000)).unwrap();
    let joined = |file: &str| format!("/proc/{}/ns/{file}", sandbox.pid());
    let config = &mut bundle.config;
    config.user_namespace(65536).namespace_path("user", &joined("user"));
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        config.namespace_path(kind, &joined(file));
    }
    config.remove("/hostname");
    config.bind(volume.to_str().unwrap(), "/data", &["rprivate", "rw"]);
    let ids = config.0["linux"]["uidMappings"].clone();
    let groups = config.0["linux"]["gidMappings"].clone();
    let last = config.0["mounts"].as_array().unwrap().len() - 1;
    config
        .set(&format!("/mounts/{last}/uidMappings"), ids)
        .set(&format!("/mounts/{last}/gidMappings"), groups);
    let script = "busybox stat -c '%u:%g' /data/mine && touch /data/new && while :; do sleep 1; done";
    config.args(&["/bin/sh", "-c", script]);
    let container = Container::new(bundle).policy(&Policy::hardened());
    let running = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
    running.wait_for("1000:1000");
    let new = volume.join("new");
    assert!(integration::command::until(integration::command::limit(10), || new.exists()));
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&new.metadata().unwrap()), 0);
    // The kernel says it of the mount, and attest asks the kernel.
    let told = container.op(&["attest", "--format", "json", container.id()]).ok();
    assert!(told.out.contains("idmapped"), "{}", told.out);
    container.op(&["kill", container.id(), "KILL"]).ok();
    running.wait(integration::command::limit(10));
}

/// An engine's socket gives the host away under any name. One that anybody may connect to anyway may be bound.
#[test]
fn a_socket_that_root_keeps_to_itself_is_not_bound() {
    if !hardens() {
        return;
    }
    for (mode, runs) in [(0o660, false), (0o600, false), (0o755, false), (0o666, true)] {
        let mut bundle = Bundle::new("mount-socket");
        let path = bundle.host_dir("run").join("any.name");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        bundle.config.bind(path.to_str().unwrap(), "/srv/any", &["ro"]);
        bundle.config.acts(&["cwd"]);
        bundle.write_config();
        let container = Container::new(bundle).policy(&Policy::hardened());
        let done = container.run();
        drop(listener);
        assert_eq!(done.code == 0, runs, "{mode:o}: {done}");
        assert!(
            runs || done.err.contains("refused [mounts.runtime-socket]"),
            "{mode:o}: {done}"
        );
    }
}
