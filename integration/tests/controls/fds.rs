//! `fds`: no descriptor of the host's comes along.

use crate::hardens;
use integration::{Bundle, Container, Outcome, Policy};

/// Runs with descriptor 3 (a directory, a file) open and passed on.
fn with_fd(test: &str, policy: &Policy, path: &str, preserve: bool) -> Outcome {
    let mut bundle = Bundle::new(test);
    bundle.config.acts(&["list-fds"]);
    let container = Container::new(bundle).policy(policy);
    let shell = r#"exec 3<"$1"; shift; exec "$@""#;
    let mut command = std::process::Command::new("/bin/sh");
    let inner = container.command(&["run", "--bundle", &container.path()]);
    command
        .args(["-c", shell, "sh", path])
        .arg(inner.get_program())
        .args(inner.get_args());
    if preserve {
        command.args(["--preserve-fds", "1"]);
    }
    command.arg(container.id());
    Outcome::of(&integration::command::run(command, &container.bundle.dir))
}

#[test]
fn a_descriptor_that_was_not_passed_on_is_not_there() {
    let outcome = with_fd("fds-stray", &Policy::permissive(), "/etc/hostname", false);
    assert_eq!(outcome.ok("list-fds"), "");
}

#[test]
fn a_preserved_file_is_there() {
    let outcome = with_fd("fds-file", &Policy::hardened(), "/etc/hostname", true);
    assert_eq!(outcome.ok("list-fds"), "3=/etc/hostname");
}

#[test]
fn a_preserved_directory_is_a_way_out_and_refused() {
    let off = with_fd("fds-dir-off", &Policy::permissive(), "/usr", true);
    assert!(off.ok("list-fds").starts_with("3="), "{off:?}");
    if !hardens() {
        return;
    }
    let on = with_fd("fds-dir", &Policy::permissive().enforce("fds"), "/usr", true);
    // Seen only when descriptors are looked at, so it may also come as a control that is not in force.
    assert!(
        !matches!(on, Outcome::Answers(_)) && format!("{on:?}").contains("fds."),
        "{on:?}"
    );
}

#[test]
fn a_working_directory_is_inside() {
    let mut bundle = Bundle::new("fds-cwd");
    bundle.config.set("/process/cwd", "/var/lib/app".into());
    assert_eq!(
        Container::new(bundle)
            .policy(&Policy::permissive())
            .acts(&["cwd"])
            .ok("cwd"),
        "/var/lib/app"
    );
}

/// CVE-2024-21626: a working directory by way of a descriptor that the runtime still holds.
#[test]
fn a_working_directory_by_a_leaked_descriptor_is_an_error() {
    for fd in 3..12 {
        let mut bundle = Bundle::new("fds-leaky-cwd");
        bundle
            .config
            .set("/process/cwd", format!("/proc/self/fd/{fd}").into())
            .acts(&["read-file=etc/shadow", "cwd"]);
        let container = Container::new(bundle).policy(&Policy::permissive());
        let done = container.run();
        // The image has no such file: found from there, it is the machine's.
        assert!(done.code != 0 || !done.out.contains("etc/shadow: ok"), "{done}");
    }
}
