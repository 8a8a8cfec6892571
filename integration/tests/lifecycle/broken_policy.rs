//! A policy that cannot be believed starts nothing, each for a reason of its own; what runs is listed, entered and ended all the same.

use integration::{Bundle, Container, Policy};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

/// Puts something in the policy's place; the words are those of the refusal.
type Break = (fn(&Path), &'static str);

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

const BREAKS: &[Break] = &[
    (
        |at| write(at, b"levle = 1\n"),
        "line 1, column 1: unknown field `levle`",
    ),
    (
        |at| write(at, b"lock = false\nlock = true\n"),
        "line 2, column 1: duplicate key",
    ),
    (
        |at| write(at, b"level = \"hard\xff\"\n"),
        "line 1, column 14: byte 0xff is not UTF-8",
    ),
    (
        |at| write(at, b"lock = true\nlevel\0\n"),
        "line 2, column 6: a NUL byte",
    ),
    (|at| write(at, b""), "line 1, column 1: the file is empty"),
    (
        |at| write(at, format!("a = {}", "[".repeat(100_000)).as_bytes()),
        "line 1, column 85: cannot recurse further",
    ),
    (
        |at| write(at, b"lock = true\rlevel = \"hardened\"\r"),
        "line 1, column 13: carriage return",
    ),
    // Of which no byte is on a disk.
    (
        |at| {
            write(at, b"");
            fs::File::options()
                .write(true)
                .open(at)
                .unwrap()
                .set_len(100 << 20)
                .unwrap();
        },
        "the policy is larger than 1 MiB",
    ),
    (
        |at| {
            write(at, b"lock = true\n");
            fs::set_permissions(at, Permissions::from_mode(0o666)).unwrap();
        },
        "others can write the policy (mode 0666): chmod go-w",
    ),
    (
        |at| {
            write(at, b"lock = true\n");
            chown(at, Some(1234), None).unwrap();
        },
        "belongs to uid 1234",
    ),
    (|at| fs::create_dir(at).unwrap(), "the policy is not a regular file"),
    (
        |at| nix::unistd::mkfifo(at, nix::sys::stat::Mode::S_IRUSR).unwrap(),
        "the policy is not a regular file",
    ),
    (
        |at| symlink("/dev/zero", at).unwrap(),
        "the policy is not a regular file",
    ),
    (
        |at| symlink("/nowhere/policy.toml", at).unwrap(),
        "what it leads to is missing",
    ),
    (|_| (), "the file is missing"),
];

fn replace(at: &Path, broken: fn(&Path)) {
    if at.is_dir() && !at.is_symlink() {
        fs::remove_dir(at).unwrap();
    } else {
        fs::remove_file(at).ok();
    }
    broken(at);
}

fn container(test: &str) -> Container {
    let mut bundle = Bundle::new(test);
    bundle.config.acts(&["sleep"]);
    Container::new(bundle).policy(&Policy::hardened())
}

#[test]
fn each_broken_policy_has_its_own_words_and_hides_nothing_that_runs() {
    if !crate::gabion() {
        return;
    }
    let container = container("broken-policy");
    let file = container.bundle.dir.join("policy.toml");
    container.run_detached().ok();
    let other = format!("{}-other", container.id());
    for (broken, words) in BREAKS {
        replace(&file, *broken);
        let refused = container.op(&["run", "--bundle", &container.path(), &other]);
        assert!(refused.code != 0 && refused.err.contains(words), "{words}: {refused}");
        assert_eq!(refused.err.trim().lines().count(), 1, "{refused}");
        assert_eq!(container.status(), "running", "{words}");
        assert_eq!(container.op(&["list", "-q"]).ok().out.trim(), container.id(), "{words}");
        container.exec(&["/usr/bin/probe", "cwd"]).ok();
        container.op(&["ps", container.id()]).ok();
    }
    // With none at all.
    container.op(&["kill", container.id(), "KILL"]).ok();
    container.wait_status("stopped");
    container.delete().ok();
}

#[test]
fn a_container_is_ended_under_a_policy_that_cannot_be_read() {
    if !crate::gabion() {
        return;
    }
    for words in ["byte 0xff", "larger than", "not a regular file"] {
        let (broken, _) = BREAKS.iter().find(|(_, said)| said.contains(words)).unwrap();
        let container = container("ended-under");
        container.create().ok();
        replace(&container.bundle.dir.join("policy.toml"), *broken);
        container.start().ok();
        container.kill("KILL").ok();
        container.wait_status("stopped");
        container.delete().ok();
    }
}
