//! README's lines about podman, followed on a node: with the entry that stands there, in the place that is named there, and
//! podman's own storage, networks and timers.

use crate::engine::{Podman, Who};
use crate::image::{DEBIAN_CONF, PAGE, has_nginx};
use integration::command::{limit, until};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
/// Stands there.
const HOLES: &str = "dev.gabion.holes=/var/lib/nginx /var/log/nginx";

#[test]
fn root_follows_the_readme() {
    follows(Who::Root, 8080);
}

#[test]
fn a_user_follows_the_readme() {
    follows(Who::User, 8081);
}

/// The entry by hand, gone again afterwards.
struct Entry(PathBuf);

impl Entry {
    fn write(podman: &Podman) -> Self {
        let place = match &podman.session {
            None => PathBuf::from("/etc/containers/containers.conf.d/gabion.conf"),
            Some(session) => session.home.join(".config/containers/containers.conf"),
        };
        let readme = fs::read_to_string(README).unwrap();
        assert!(readme.contains("~/.config/containers/containers.conf"));
        assert!(readme.contains("/etc/containers/containers.conf.d/gabion.conf"));
        let lines = readme.lines().map(str::trim);
        let entry: Vec<&str> = lines.skip_while(|line| *line != "[engine.runtimes]").take(2).collect();
        assert_eq!(entry[1], r#"gabion = ["/usr/local/bin/gabion"]"#);
        let dir = place.parent().unwrap();
        fs::create_dir_all(dir).unwrap();
        fs::write(&place, entry.join("\n")).unwrap();
        if let Some(session) = &podman.session {
            session.give(&session.home.join(".config"));
        }
        Self(place)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

fn follows(who: Who, port: u16) {
    let Some(podman) = has_nginx().then(|| Podman::with_its_own(who, "readme")).flatten() else {
        return;
    };
    // The last named goes first: podman clears up by the entry.
    let (_entry, podman) = (Entry::write(&podman), podman);
    let podman = &podman;
    let gabion = |words: &[&str]| podman.call(&[&["--runtime", "gabion"], words].concat());
    assert_eq!(gabion(&["run", "--rm", "img", "id", "-u"]).ok().out, "0\n");
    plugins(podman);
    exec(podman);
    holes(podman);
    serves(podman, port);
    healthcheck(podman);
    // «Do not make gabion the default where you `podman build`».
    let context = podman.bundle.host_dir("context");
    fs::write(context.join("Containerfile"), "FROM localhost/img\nRUN touch /usr/x\n").unwrap();
    let context = context.display().to_string();
    podman
        .call(&["--runtime", "gabion", "build", "--network", "none", &context])
        .says(&["refused [rootfs.build]", "podman build --runtime runc"]);
    podman
        .call(&["build", "--runtime", "runc", "--network", "none", &context])
        .ok();
}

/// «a volume whose programs may run», and without the word they may not.
fn plugins(podman: &Podman) {
    let plugins = podman.bundle.host_dir("plugins");
    fs::copy("/bin/busybox", plugins.join("busybox")).unwrap();
    let volume = |options: &str| format!("{}:/plugins{options}", plugins.display());
    let run = |volume: &str| {
        let words = [
            "--runtime",
            "gabion",
            "run",
            "--rm",
            "-v",
            volume,
            "img",
            "/plugins/busybox",
            "true",
        ];
        podman.call(&words)
    };
    run(&volume(":exec")).ok();
    run(&volume(":ro")).ok();
    run(&volume("")).fails_with(126);
}

/// «with the container's own capabilities and no more».
fn exec(podman: &Podman) {
    podman
        .call(&["--runtime", "gabion", "run", "-d", "--name", "c", "img"])
        .ok();
    let capabilities = ["c", "grep", "CapEff", "/proc/self/status"];
    let usual = podman.call(&[&["exec"], &capabilities[..]].concat()).ok().out;
    let privileged = podman.call(&[&["exec", "--privileged"], &capabilities[..]].concat());
    assert_eq!(privileged.ok().out, usual);
    podman.call(&["rm", "--force", "--time", "0", "c"]).ok();
}

/// `podman diff` under another runtime says which; without them nginx says what is missing.
fn holes(podman: &Podman) {
    let words = ["img", "nginx", "-c", DEBIAN_CONF, "-g", "daemon off;"];
    podman
        .call(&[&["--runtime", "runc", "run", "-d", "--name", "try"], &words[..]].concat())
        .ok();
    let mut diff = String::new();
    let written = until(limit(20), || {
        diff = podman.call(&["diff", "try"]).ok().out;
        diff.lines().any(|line| line == "A /var/lib/nginx/body")
    });
    assert!(written, "{diff}");
    podman.call(&["rm", "--force", "--time", "0", "try"]).ok();
    let bare = podman.call(&[&["--runtime", "gabion", "run", "--rm"], &words[..]].concat());
    let line = r#"mkdir() "/var/lib/nginx/body" failed (30: Read-only file system)"#;
    bare.says(&[line]);
}

fn serves(podman: &Podman, port: u16) {
    let publish = format!("{port}:80");
    let words = [
        "--runtime",
        "gabion",
        "run",
        "-d",
        "--name",
        "site",
        "-p",
        &publish,
        "--annotation",
        HOLES,
    ];
    let words = [&words[..], &["img", "nginx", "-c", DEBIAN_CONF, "-g", "daemon off;"]].concat();
    podman.call(&words).ok();
    let mut said = String::new();
    let served = until(limit(60), || {
        said = page(port).unwrap_or_else(|e| e.to_string());
        said.ends_with(PAGE)
    });
    assert!(served, "{said}\n{}", podman.call(&["logs", "site"]));
    podman.call(&["rm", "--force", "--time", "0", "site"]).ok();
}

fn page(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(limit(10)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// By systemd's timer, which calls podman by itself.
fn healthcheck(podman: &Podman) {
    let words = [
        "--health-cmd",
        "test -e /tmp/well",
        "--health-interval",
        "3s",
        "--health-retries",
        "1",
    ];
    let words = [
        &["--runtime", "gabion", "run", "-d", "--name", "h", "--network", "none"],
        &words[..],
        &["img"],
    ]
    .concat();
    podman.call(&words).ok();
    let status = |wanted: &str| {
        let there = until(limit(60), || podman.tell("h", "{{.State.Health.Status}}") == wanted);
        assert!(
            there,
            "{}",
            podman.call(&["inspect", "--format", "{{json .State.Health}}", "h"])
        );
    };
    status("unhealthy");
    podman.call(&["exec", "h", "touch", "/tmp/well"]).ok();
    status("healthy");
    podman.call(&["rm", "--force", "--time", "0", "h"]).ok();
}
