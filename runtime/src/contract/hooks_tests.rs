#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::time::Instant;

use nix::sys::signal::Signal;

use super::*;

fn hook(args: &[&str]) -> Hook {
    serde_json::from_value(serde_json::json!({"path": args.first(), "args": args, "env": ["PATH=/usr/bin:/bin"]}))
        .unwrap()
}

fn shell(script: &str) -> Hook {
    hook(&["/bin/sh", "-c", script])
}

fn within(mut hook: Hook, seconds: i64) -> Hook {
    hook.set_timeout(Some(seconds));
    hook
}

/// A state with this many bytes of annotations.
fn state(bytes: usize) -> State {
    let annotations = HashMap::from([("k".to_owned(), "v".repeat(bytes))]);
    State {
        oci_version: "1.2.0".to_owned(),
        id: "c".to_owned(),
        status: ContainerStatus::Creating,
        pid: Some(7),
        bundle: PathBuf::from("/b"),
        annotations: Some(annotations),
        created: None,
        creator: None,
        use_systemd: false,
        clean_up_intel_rdt_subdirectory: None,
        intel_rdt_dir: None,
        intel_rdt_monitoring_dir: None,
    }
}

fn one(hook: &Hook, bytes: usize) -> std::result::Result<(), String> {
    run_one(Kind::CreateRuntime, 3, hook, Some(&state(bytes)), &Scene::default()).map_err(|e| e.to_string())
}

/// A path for one test.
fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("gabion-hook-{name}-{}", std::process::id()))
}

const LARGE: usize = 300 << 10;

#[test]
fn a_hook_need_not_read_its_state() {
    for bytes in [1, LARGE] {
        assert_eq!(one(&hook(&["/bin/true"]), bytes), Ok(()));
        assert_eq!(one(&shell("sleep 0.2; exec /bin/true"), bytes), Ok(()));
        assert_eq!(one(&shell("exec 0<&-; sleep 0.2"), bytes), Ok(()));
    }
}

#[test]
fn a_hook_gets_the_whole_state_and_its_end() {
    let file = scratch("state");
    let copy = shell(&format!("cat > {}", file.display()));
    assert_eq!(one(&copy, LARGE), Ok(()));
    let read: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    std::fs::remove_file(file).unwrap();
    assert_eq!(read["annotations"]["k"].as_str().unwrap().len(), LARGE);
    assert_eq!((&read["status"], &read["pid"]), (&"creating".into(), &7.into()));
}

/// libcontainer's clock starts when the state is written, which with a large one is never.
#[test]
fn a_timeout_holds_whatever_the_hook_reads() {
    for bytes in [1, LARGE] {
        let started = Instant::now();
        let error = one(&within(hook(&["/bin/sleep", "20"]), 1), bytes).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(5), "{bytes}");
        assert!(
            error.contains("createRuntime hook #3: error running hook: /bin/sleep was killed after its timeout of 1 s"),
            "{error}"
        );
    }
    assert_eq!(one(&within(hook(&["/bin/true"]), 20), 1), Ok(()));
    for none in [0, -1] {
        let error = one(&within(hook(&["/bin/true"]), none), 1).unwrap_err();
        assert!(error.contains("must be greater than 0"), "{error}");
    }
}

/// What a hook started ends with it.
#[test]
fn a_timeout_ends_the_whole_group() {
    let file = scratch("group");
    let script = format!("sleep 300 & echo $! > {}; sleep 301", file.display());
    assert!(one(&within(shell(&script), 1), 1).is_err());
    let child = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(file).unwrap();
    let stat = PathBuf::from(format!("/proc/{}/stat", child.trim()));
    let deadline = Instant::now() + Duration::from_secs(5);
    // Gone, or dead and not yet reaped by whoever its parent is now.
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "it lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_child_that_holds_stderr_keeps_nobody() {
    let started = Instant::now();
    assert_eq!(one(&shell("sleep 7 & exit 0"), 1), Ok(()));
    // One that writes there without end, too.
    assert_eq!(one(&shell("timeout 7 yes >&2 & exit 0"), 1), Ok(()));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_failure_names_the_hook_and_its_last_words() {
    let error = one(&shell("echo first >&2; echo 'no such device' >&2; exit 4"), 1).unwrap_err();
    assert!(
        error.contains(
            "createRuntime hook #3: error running hook: /bin/sh failed with exit code 4: first; no such device"
        ),
        "{error}"
    );
    let error = one(&shell("kill -9 $$"), 1).unwrap_err();
    assert!(error.contains("was ended by signal 9"), "{error}");
    assert_eq!(
        how(ExitStatus::from_raw(libc::SIGSYS)),
        "was ended by signal 31: bad system call"
    );
    let error = one(&hook(&["/no/such"]), 1).unwrap_err();
    assert!(
        error.contains("hook #3: error running hook: /no/such cannot be run: No such file"),
        "{error}"
    );
    let error = one(&hook(&["true"]), 1).unwrap_err();
    assert!(error.contains("not absolute"), "{error}");
    // More than is kept, and signs that a terminal would obey.
    let error = one(
        &shell("yes | tr -d '\\n' | tr y '\\r' | head -c 200000 >&2; printf '\\n\\033[2Jend\\n' >&2; exit 1"),
        1,
    )
    .unwrap_err();
    assert!(error.ends_with("failed with exit code 1: \\u{1b}[2Jend"), "{error}");
}

/// A hook that names none has that of its scene; one that names an empty one has none at all.
#[test]
fn the_environment_is_what_the_hook_names_or_its_scene() {
    let file = scratch("environment");
    let mut copy = hook(&["/bin/cp", "/proc/self/environ", file.to_str().unwrap()]);
    let scene = Scene::of_workload(&[c"S=1=2".to_owned(), c"T=".to_owned(), c"none".to_owned()]);
    for (env, wanted) in [
        (None, "S=1=2\0T=\0"),
        (Some(Vec::new()), ""),
        (Some(vec!["A=1".to_owned(), "B=x=y".to_owned()]), "A=1\0B=x=y\0"),
    ] {
        copy.set_env(env);
        let ran = run_one(Kind::CreateRuntime, 0, &copy, Some(&state(1)), &scene);
        assert!(ran.is_ok(), "{ran:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), wanted);
    }
    std::fs::remove_file(file).unwrap();
}

/// A bundle that somebody removed does not keep a hook from running.
#[test]
fn the_directory_is_its_scenes_where_it_is_there() {
    let (file, dir) = (scratch("pwd"), scratch("dir"));
    std::fs::create_dir(&dir).unwrap();
    let tell = shell(&format!("pwd > {}", file.display()));
    let own = std::env::current_dir().unwrap();
    for wanted in [&dir, &own] {
        let scene = Scene {
            dir: Some(dir.clone()),
            ..Scene::default()
        };
        let ran = run_one(Kind::Poststop, 0, &tell, Some(&state(1)), &scene);
        assert!(ran.is_ok(), "{ran:?}");
        let said = std::fs::read_to_string(&file).unwrap();
        assert_eq!(said.trim(), wanted.to_str().unwrap());
        drop(std::fs::remove_dir(&dir));
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn the_last_words_are_whole_lines_within_bounds() {
    assert_eq!(last_words(b" \n"), "");
    assert_eq!(last_words(b"a\n\n b \n"), ": a; b");
    let long = [b"first\n".to_vec(), vec![b'x'; TOLD - 3], b"\nend".to_vec()].concat();
    assert_eq!(last_words(&long), ": end");
    let endless = [vec![b'x'; 3 * TOLD], b"end".to_vec()].concat();
    let told = last_words(&endless);
    assert!(told.len() == TOLD + 2 && told.ends_with("xend"), "{}", told.len());
}

/// The wait of a hook without a timeout ends where somebody asks us to; one inside the container is the kernel's to end.
#[test]
fn who_is_asked_to_end_ends_the_hook() {
    let term = nix::sys::signal::SigSet::from(Signal::SIGTERM);
    term.thread_block().unwrap();
    nix::sys::signal::raise(Signal::SIGTERM).unwrap();
    let started = Instant::now();
    let inside = run_one(
        Kind::CreateContainer,
        0,
        &hook(&["/bin/true"]),
        Some(&state(1)),
        &Scene::default(),
    );
    assert!(inside.is_ok());
    let error = one(&hook(&["/bin/sleep", "20"]), 1).unwrap_err();
    assert!(error.contains("was killed: SIGTERM asked us to end"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
    // It is taken; what the caller had blocked stays so.
    let mask = nix::sys::signal::SigSet::thread_get_mask().unwrap();
    assert!(mask.contains(Signal::SIGTERM) && !mask.contains(Signal::SIGINT));
}

/// A hook starts with nothing blocked, though `run` holds back every signal, and with SIGPIPE as it comes.
#[test]
fn a_hook_starts_with_no_signal_blocked() {
    let before = nix::sys::signal::SigSet::all()
        .thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_SETMASK)
        .unwrap();
    let file = scratch("mask");
    let copy = shell(&format!(
        "grep -E '^Sig(Blk|Ign)' /proc/self/status > {}",
        file.display()
    ));
    let ran = one(&copy, 1);
    before.thread_set_mask().unwrap();
    assert_eq!(ran, Ok(()));
    let status = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(file).unwrap();
    assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");
}
