//! Words that callers look for. An engine tells exit codes and what to do next by them, so they are part of the interface.

use integration::{Bundle, Container, Policy};
use serde_json::json;

/// What happens, who looks, and for which words (in any case).
const PROGRAMS: [(&str, &str, &str); 5] = [
    ("nosuch", "Docker and podman: 127", "executable file not found in $path"),
    ("/no/such", "Docker and podman: 127", "no such file or directory"),
    ("/etc/passwd", "Docker and podman: 126", "permission denied"),
    ("/etc", "Docker: 126", "is a directory"),
    ("/etc/passwd/x", "Docker", "not a directory"),
];

fn container(test: &str, policy: &Policy, change: impl FnOnce(&mut Bundle)) -> Container {
    let mut bundle = Bundle::with_busybox(test);
    change(&mut bundle);
    Container::new(bundle).policy(policy)
}

#[track_caller]
fn says(done: &integration::Done, words: &str, who: &str) {
    assert!(
        done.code != 0 && done.err.to_lowercase().contains(words),
        "{who} looks for «{words}»: {done}"
    );
}

#[test]
fn programs_that_cannot_run_are_told_in_the_callers_words() {
    for policy in [Policy::hardened(), Policy::permissive()] {
        let up = container("words-exec", &policy, |_| {});
        up.run_detached().ok();
        for (program, who, words) in PROGRAMS {
            says(&up.exec(&[program]), words, who);
            let first = container("words-run", &policy, |bundle| {
                bundle.config.args(&[program]);
            });
            says(&first.run(), words, who);
        }
    }
}

/// containerd takes these for «it is gone already», and go-runc's callers do not try again.
#[test]
fn what_does_not_run_and_what_is_not_there_are_told_apart() {
    let gone = container("words-gone", &Policy::hardened(), |_| {});
    let calls: [&[&str]; 4] = [
        &["kill", gone.id(), "9"],
        &["exec", gone.id(), "true"],
        &["state", gone.id()],
        &["pause", gone.id()],
    ];
    for call in calls {
        says(&gone.op(call), "does not exist", "containerd");
    }
    gone.run_detached().ok();
    gone.kill("KILL").ok();
    gone.wait_status("stopped");
    let calls: [&[&str]; 4] = [
        &["kill", gone.id(), "9"],
        &["exec", gone.id(), "true"],
        &["pause", gone.id()],
        &["update", "--pids-limit", "9", gone.id()],
    ];
    for call in calls {
        says(&gone.op(call), "container not running", "containerd");
    }
}

/// Docker asks then whether a directory was mounted onto a file.
#[test]
fn a_file_and_a_directory_do_not_meet() {
    for policy in [Policy::hardened(), Policy::permissive()] {
        for (source, target) in [("file", "/etc"), ("directory", "/etc/passwd")] {
            let meets = container("words-kinds", &policy, |bundle| {
                let directory = bundle.host_dir("directory");
                std::fs::write(directory.parent().unwrap().join("file"), "").unwrap();
                let source = directory.parent().unwrap().join(source).display().to_string();
                let mount = json!({"destination": target, "type": "bind", "source": source, "options": ["bind", "ro"]});
                bundle.config.push("/mounts", mount);
            });
            says(&meets.run(), "not a directory", "Docker");
        }
    }
}
