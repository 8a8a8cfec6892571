//! Terminals: a console socket for create, run and exec; the caller's own terminal in the foreground.

use integration::fdpass::Listener;
use integration::{Bundle, Container, Policy, command};
use std::process::Command;

fn with_terminal(test: &str, script: &str) -> Container {
    let mut bundle = Bundle::with_busybox(test);
    bundle
        .config
        .set("/process/terminal", true.into())
        .args(&["/bin/sh", "-c", script]);
    Container::new(bundle).policy(&Policy::hardened())
}

#[test]
fn create_sends_the_terminal_to_the_socket() {
    let container = with_terminal(
        "con-create",
        "test -t 0 && test -t 2 && tty && echo controlling >/dev/tty && echo done; sleep 60",
    );
    let path = container.bundle.dir.join("con");
    let listener = Listener::bind(&path);
    container
        .op(&[
            "create",
            "--console-socket",
            path.to_str().unwrap(),
            "--bundle",
            &container.path(),
            container.id(),
        ])
        .ok();
    let console = listener.receive();
    container.start().ok();
    let text = console.read_until("done");
    assert!(text.contains("/dev/pts/0") && text.contains("controlling"), "{text}");
}

#[test]
fn it_has_the_size_that_is_asked_for_and_dev_console_is_it() {
    let script = "stty size; echo by the console >/dev/console; test -c /dev/console && echo done; sleep 60";
    let mut container = with_terminal("con-size", script);
    let size = serde_json::json!({ "height": 44, "width": 99 });
    container.bundle.config.set("/process/consoleSize", size);
    container.bundle.write_config();
    let path = container.bundle.dir.join("con");
    let listener = Listener::bind(&path);
    let socket = path.to_str().unwrap();
    let (bundle, id) = (container.path(), container.id().to_owned());
    container
        .op(&["create", "--console-socket", socket, "--bundle", &bundle, &id])
        .ok();
    let console = listener.receive();
    container.start().ok();
    let text = console.read_until("done");
    assert!(text.contains("44 99") && text.contains("by the console"), "{text}");
}

#[test]
fn exec_sends_its_own() {
    let container = Container::new(Bundle::with_busybox("con-exec")).policy(&Policy::hardened());
    container.run_detached().ok();
    let path = container.bundle.dir.join("con");
    let listener = Listener::bind(&path);
    let socket = path.to_str().unwrap();
    let words = [
        "exec",
        "--tty",
        "--detach",
        "--console-socket",
        socket,
        container.id(),
        "/bin/sh",
        "-c",
        "tty; echo controlling >/dev/tty; echo done",
    ];
    container.op(&words).ok();
    let text = listener.receive().read_until("done");
    assert!(text.contains("/dev/pts/") && text.contains("controlling\r"), "{text}");
}

/// `script` gives the runtime a terminal of its own to pass through.
#[test]
fn run_in_the_foreground_passes_the_callers_terminal_through() {
    let container = with_terminal("con-run", "test -t 0 && tty; stty size; exit 9");
    let words = container.command(&["run", "--bundle", &container.path(), container.id()]);
    let line = std::iter::once(words.get_program()).chain(words.get_args());
    let line = line
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ");
    let mut script = Command::new("script");
    script.args([
        "--quiet",
        "--return",
        "--command",
        &format!("stty rows 33 cols 77; {line}"),
        "/dev/null",
    ]);
    let done = command::run(script, &container.bundle.dir).fails_with(9);
    assert!(done.out.contains("/dev/pts/0") && done.out.contains("33 77"), "{done}");
    container.nothing_left();
}

#[test]
fn a_terminal_without_a_socket_is_an_error() {
    let container = with_terminal("con-none", "true");
    assert_eq!(container.create().code, 1);
    container.nothing_left();
}

#[test]
fn a_socket_nobody_listens_on_is_an_error() {
    let container = with_terminal("con-deaf", "true");
    let path = container.bundle.dir.join("con");
    drop(Listener::bind(&path));
    let done = container.op(&[
        "create",
        "--console-socket",
        path.to_str().unwrap(),
        "--bundle",
        &container.path(),
        container.id(),
    ]);
    assert_eq!(done.code, 1, "{done}");
    container.nothing_left();
}
