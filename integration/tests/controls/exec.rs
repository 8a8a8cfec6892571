//! `exec`: a second process gets no more than the first.

use crate::hardens;
use integration::{Bundle, Container, Policy};
use serde_json::json;

const SHUT: [&str; 6] = [
    "create-file=/usr/x",
    "chroot=/",
    "unshare-user",
    "exec-memfd",
    "sysctl-write=kernel.domainname,x",
    "raw-socket",
];

fn running(test: &str) -> Container {
    let container = Container::new(Bundle::new(test)).policy(&Policy::hardened());
    container.run_detached().ok();
    container
}

#[track_caller]
fn all_shut(container: &Container, answers: &std::collections::BTreeMap<String, String>) {
    for act in SHUT {
        assert!(
            !answers[act].starts_with("ok"),
            "{act} in {}: {answers:?}",
            container.id()
        );
    }
}

#[test]
fn an_exec_is_held_by_every_control_of_the_init_process() {
    if !hardens() {
        return;
    }
    let container = running("exec-same");
    all_shut(&container, &container.exec_acts(&SHUT));
    let both = ["caps", "nnp", "limits"];
    let mut other = Container::new(Bundle::new("exec-compare")).policy(&Policy::hardened());
    let init = other.acts(&both);
    let second = container.exec_acts(&both);
    for act in both {
        assert_eq!(init.answer(act), second[act], "{act}");
    }
}

/// CRI clients send the original process: all default capabilities, `no_new_privs` unset.
#[test]
fn process_json_is_intersected() {
    if !hardens() {
        return;
    }
    let container = running("exec-process");
    let args: Vec<&str> = ["/usr/bin/probe", "caps", "nnp"].into_iter().chain(SHUT).collect();
    let all = json!(["CAP_SYS_ADMIN", "CAP_NET_RAW", "CAP_MKNOD", "CAP_CHOWN"]);
    let process = json!({
        "args": args, "cwd": "/", "env": ["PATH=/usr/bin"], "user": { "uid": 0, "gid": 0 }, "noNewPrivileges": false,
        "capabilities": { "bounding": all, "effective": all, "permitted": all, "inheritable": all, "ambient": all }
    });
    let file = container.bundle.dir.join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let done = container
        .op(&["exec", "--process", file.to_str().unwrap(), container.id()])
        .ok();
    let answers = integration::outcome::answers(&done.out);
    all_shut(&container, &answers);
    assert_eq!(answers["nnp"], "ok NoNewPrivs=1");
    assert!(
        answers["caps"].contains("CapInh=0000000000000000")
            && answers["caps"].contains("CapEff=0000000000000001 CapBnd=0000000000000001 CapAmb=0000000000000000"),
        "{answers:?}"
    );
}

#[test]
fn the_bundle_is_not_read_again() {
    if !hardens() {
        return;
    }
    let mut container = running("exec-bundle");
    container
        .bundle
        .config
        .add_capability("CAP_SYS_ADMIN")
        .set("/root/readonly", false.into());
    container.bundle.config.set("/process/noNewPrivileges", false.into());
    container.bundle.write_config();
    all_shut(&container, &container.exec_acts(&SHUT));
}

/// Also not with a laxer policy: the level that governed create governs.
#[test]
fn a_later_policy_does_not_loosen() {
    if !hardens() {
        return;
    }
    let container = running("exec-later").policy(&Policy::permissive());
    all_shut(&container, &container.exec_acts(&SHUT));
}

/// What is verified is the user that was named, not the first process's.
#[test]
fn another_user_than_the_containers() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("exec-user");
    bundle.config.user(1000);
    let container = Container::new(bundle).policy(&Policy::hardened());
    container.run_detached().ok();
    for (user, id) in [
        ("33", "Uid=33,33,33,33 Gid=1000,"),
        ("33:44", "Uid=33,33,33,33 Gid=44,"),
        ("0:0", "Uid=0,0,0,0 Gid=0,"),
    ] {
        let done = container
            .op(&["exec", "--user", user, container.id(), "/usr/bin/probe", "id"])
            .ok();
        assert!(done.out.contains(id), "{user}: {done}");
    }
}

/// A container stays at its level: another one on a later command line changes nothing, in either direction.
#[test]
fn another_level_on_a_later_call_changes_nothing() {
    if !hardens() {
        return;
    }
    let container = running("exec-level").global(&["--level", "permissive"]);
    all_shut(&container, &container.exec_acts(&SHUT));
    let before = container.cgroup("pids", "pids.max");
    let update = container.op(&["update", "--pids-limit", "-1", container.id()]);
    update.fails_with(1).says(&["refused", "cgroup.pids-unlimited"]);
    assert_eq!(container.cgroup("pids", "pids.max"), before);

    let loose = Container::new(Bundle::new("exec-level-loose")).policy(&Policy::permissive());
    loose.run_detached().ok();
    let status = |container: &Container| container.exec(&["/usr/bin/probe", "caps", "nnp", "seccomp"]).out;
    let told = status(&loose);
    let loose = loose.global(&["--level", "restricted"]);
    assert_eq!(status(&loose), told);
    loose.op(&["update", "--pids-limit", "-1", loose.id()]).ok();
}

#[test]
fn flags_that_widen_are_refused() {
    if !hardens() {
        return;
    }
    let container = running("exec-flags");
    for flags in [["--cap", "CAP_SYS_ADMIN"].as_slice(), &["--privileged"]] {
        let words = [&["exec"], flags, &[container.id(), "/usr/bin/probe", "caps"]].concat();
        let done = container.op(&words);
        assert!(done.code != 0 && done.err.contains("exec."), "{done}");
    }
}

#[test]
fn a_policy_can_forbid_it() {
    if !hardens() {
        return;
    }
    let container = Container::new(Bundle::new("exec-deny")).policy(&Policy::hardened().line("exec = \"deny\""));
    container.run_detached().ok();
    let done = container.exec(&["/usr/bin/probe", "cwd"]);
    assert!(done.code != 0 && done.err.contains("exec."), "{done}");
}
