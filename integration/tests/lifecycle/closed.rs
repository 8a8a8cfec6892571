//! stdout that nobody reads, or that is not there: every command that prints ends, with no panic and no signal.

use integration::{Bundle, Container, Policy};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

#[test]
fn no_command_minds_that_nobody_reads() {
    let mut bundle = Bundle::new("closed");
    bundle.config.acts(&["sleep"]);
    let container = Container::new(bundle).policy(&Policy::hardened());
    container.run_detached().ok();
    let (id, path) = (container.id(), container.path());
    let commands: [&[&str]; 16] = [
        &["--version"],
        &["--help"],
        &["state", id],
        &["list"],
        &["list", "--format", "json"],
        &["ps", id],
        &["events", "--stats", id],
        &["features"],
        &["check", &path],
        &["check", "--format", "json", &path],
        &["explain", "mounts.sensitive"],
        &["policy", "show"],
        &["attest", id],
        &["attest", "--format", "json", id],
        &["apparmor", "show"],
        &["audit", "head"],
    ];
    for words in commands {
        for closed in [true, false] {
            let mut command = if closed {
                // The shell closes it before gabion begins.
                let plain = container.command(words);
                let mut shell = std::process::Command::new("sh");
                shell
                    .args(["-c", "exec \"$0\" \"$@\" >&-"])
                    .arg(plain.get_program())
                    .args(plain.get_args());
                shell
            } else {
                let (reader, writer) = nix::unistd::pipe().unwrap();
                drop(reader);
                let mut command = container.command(words);
                command.stdout(Stdio::from(writer));
                command
            };
            let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            let done = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            let how = format!("{words:?}, closed: {closed}: {:?} {said}", done.status);
            assert!(!said.contains("panicked"), "{how}");
            assert!(
                matches!(done.status.signal(), None | Some(13)) && done.status.code() != Some(101),
                "{how}"
            );
        }
    }
    assert_eq!(container.status(), "running");
}
