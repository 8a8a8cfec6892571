//! `memory`: the table of doors and rules. Each door writes machine code and runs it: it is open where its one rule is off, with all the others
//! on, and closed where that is on.

use crate::hardens;
use integration::command::{limit, until};
use integration::{Bundle, Container, Outcome, Policy};

const RULES: [&str; 5] = ["mdwe", "memfd", "shm_exec", "ptrace", "proc"];

/// Door, the rule that closes it, and how.
const DOORS: [(&str, &str, &str); 14] = [
    ("run-written=mmap", "mdwe", "EACCES"),
    ("run-written=mprotect", "mdwe", "EACCES"),
    ("run-written=pkey", "mdwe", "EACCES"),
    // What PR_SET_MDWE leaves open: a second mapping of shared memory, by fork, by mremap, and of /dev/zero.
    ("run-written=shared-fork", "mdwe", "EACCES"),
    ("run-written=shared-remap", "mdwe", "EACCES"),
    ("run-written=zero-remap", "mdwe", "E"),
    // The personality that makes data executable: brk(2), and every readable mapping.
    ("run-written=heap", "mdwe", "EPERM"),
    ("run-written=readable", "mdwe", "EPERM"),
    ("run-written=userfaultfd", "mdwe", "EPERM"),
    ("run-written=memfd", "memfd", "ENOSYS"),
    ("run-written=shm", "shm_exec", "EACCES"),
    ("run-written=ptrace", "ptrace", "EPERM"),
    ("run-written=proc-self", "proc", "EROFS"),
    ("run-written=proc-child", "proc", "EROFS"),
];

/// Closed by another control, whatever `memory` says: the hole is noexec.
const FILE: &str = "run-written=file";

fn acts() -> Vec<&'static str> {
    DOORS.iter().map(|(act, _, _)| *act).chain([FILE]).collect()
}

/// All rules but one. `seccomp` is only observed, so that what closes a door is this control's own filter.
fn all_but(off: &str) -> Policy {
    let word = |rule| if rule == off { "observe" } else { "enforce" };
    RULES
        .into_iter()
        .fold(Policy::hardened().observe("seccomp"), |policy, rule| {
            policy.line(&format!("memory.{rule} = \"{}\"", word(rule)))
        })
}

fn under(name: &str, policy: &Policy) -> Outcome {
    Container::new(Bundle::new(&format!("memory-{name}")))
        .policy(policy)
        .acts(&acts())
}

fn all_closed(answer: impl Fn(&str) -> String) {
    for (door, rule, errno) in DOORS {
        let answer = answer(door);
        assert!(
            answer.starts_with(errno),
            "{rule} should close {door} by {errno}: {answer}"
        );
    }
}

#[test]
fn each_door_is_closed_by_its_own_rule() {
    if !hardens() {
        return;
    }
    let all = under("all", &all_but(""));
    all_closed(|door| all.answer(door).to_owned());
    for off in RULES {
        let outcome = under(off, &all_but(off));
        for (door, rule, _) in DOORS {
            // A device is on no mount that lets anything be executed.
            if rule == off && door != "run-written=zero-remap" {
                assert_eq!(outcome.ok(door), "ran", "{off}");
            } else {
                outcome.denied(door, "E");
            }
        }
        outcome.denied(FILE, "EPERM");
    }
}

#[test]
fn restricted_has_all_and_hardened_none() {
    if !hardens() {
        return;
    }
    let run = |name: &str, level, annotation: Option<&str>| {
        let mut bundle = Bundle::new(&format!("memory-{name}"));
        bundle.config.user(1000);
        if let Some(value) = annotation {
            bundle.config.annotation("dev.gabion.memory", value);
        }
        Container::new(bundle).policy(&Policy::level(level)).acts(&acts())
    };
    for outcome in [
        run("restricted", "restricted", None),
        run("asked", "hardened", Some("restricted")),
    ] {
        all_closed(|door| outcome.answer(door).to_owned());
    }
    let hardened = run("hardened", "hardened", None);
    for door in [
        "mmap",
        "mprotect",
        "shared-fork",
        "memfd",
        "shm",
        "proc-self",
        "proc-child",
    ] {
        assert_eq!(hardened.ok(&format!("run-written={door}")), "ran");
    }
}

/// A later process is no child of the first: it gets the rules by itself.
#[test]
fn exec_is_held_too() {
    if !hardens() {
        return;
    }
    let container = Container::new(Bundle::new("memory-exec")).policy(&all_but(""));
    container.run_detached().ok();
    let answers = container.exec_acts(&acts());
    all_closed(|door| answers[door].clone());
    let free = Container::new(Bundle::new("memory-exec-free")).policy(&all_but("mdwe"));
    free.run_detached().ok();
    assert_eq!(free.exec_acts(&["run-written=mmap"])["run-written=mmap"], "ok ran");
}

/// The last word of an engine's option is not the last word: each procfs becomes read-only, wherever it is mounted.
#[test]
fn every_procfs_is_read_only() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("memory-second-proc");
    std::fs::create_dir(bundle.rootfs().join("srv/proc")).unwrap();
    bundle
        .config
        .mount("/srv/proc", "proc", "proc", &["rw", "nosuid", "noexec", "nodev"]);
    let acts = ["open-write=/proc/self/mem", "open-write=/srv/proc/self/mem"];
    let outcome = Container::new(bundle)
        .policy(&all_but("").observe("mounts"))
        .acts(&acts);
    for act in acts {
        outcome.denied(act, "EROFS");
    }
}

/// A regular file of the host's as stdio is opened again only for what it was handed in for: what is written to it is not read, so it is not mapped
/// executable either; what is read from it is not written.
#[test]
fn a_file_as_stdio_is_no_door() {
    if !hardens() {
        return;
    }
    for (name, policy, open) in [
        ("closed", all_but(""), false),
        ("open", all_but("").observe("landlock"), true),
    ] {
        let mut bundle = Bundle::new(&format!("memory-stdio-{name}"));
        bundle
            .config
            .acts(&["run-written=stdout", "open-write=/proc/self/fd/0"]);
        let (input, output) = (bundle.dir.join("in"), bundle.dir.join("out"));
        std::fs::write(&input, "x").unwrap();
        let container = Container::new(bundle).policy(&policy);
        let mut command = container.command(&["run", "--bundle", &container.path(), container.id()]);
        command.stdin(std::fs::File::open(&input).unwrap());
        command.stdout(std::fs::File::create(&output).unwrap());
        let mut running = command.spawn().unwrap();
        assert!(until(limit(20), || running.try_wait().unwrap().is_some()));
        let said = std::fs::read(&output).unwrap();
        let said = String::from_utf8_lossy(&said);
        for act in ["run-written=stdout", "open-write=/proc/self/fd/0"] {
            let want = if open { "ok" } else { "EACCES" };
            assert!(said.contains(&format!("{act}: {want}")), "{name}: {said}");
        }
    }
}
