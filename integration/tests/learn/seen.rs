//! What is seen of a run, and what it comes to.

use super::{holes, learn, report, set, shell};
use integration::{Bundle, Container, Policy};
use serde_json::{Value, json};
use std::fs;

#[test]
fn what_needs_nothing_is_told_so() {
    let container = shell("learn-nothing", "echo x >/tmp/a; echo y >/run/b; mkdir /run/c; exit 0");
    let done = learn(&container, &[]).ok();
    let report = report(&done);
    assert_eq!(holes(&report), set(&[]), "{done}");
    let hardened = report["levels"]
        .as_array()
        .unwrap()
        .iter()
        .find(|l| l["level"] == "hardened")
        .unwrap();
    assert_eq!(hardened["refused"], json!([]), "{done}");
    // Nothing of it is in the image.
    assert!(!container.bundle.rootfs().join("tmp/a").exists());
    // It is root's: restricted says no.
    let restricted = report["levels"]
        .as_array()
        .unwrap()
        .iter()
        .find(|l| l["level"] == "restricted")
        .unwrap();
    assert_eq!(restricted["refused"][0]["code"], "user.root", "{done}");
}

#[test]
fn what_was_written_is_seen_with_what_was_there_before() {
    let script = "echo more >>/var/lib/app/old; echo x >/var/lib/app/new; rm /var/log/app/gone; chmod 700 /srv; mkdir /data; touch /data/t; rm /data/t";
    let container = shell("learn-written", script);
    fs::write(container.bundle.rootfs().join("var/lib/app/old"), "before").unwrap();
    fs::write(container.bundle.rootfs().join("var/log/app/gone"), "gone").unwrap();
    let done = learn(&container, &[]).ok();
    let report = report(&done);
    assert_eq!(
        holes(&report),
        set(&["/data", "/srv", "/var/lib/app", "/var/log/app"]),
        "{done}"
    );
    let written = &report["seen"]["written"];
    let old = &written["/var/lib/app/old"];
    assert_eq!(
        (&old["change"], &old["size"], &old["before"]["size"]),
        (&json!("changed"), &json!(11), &json!(6)),
        "{done}"
    );
    assert_eq!(written["/var/lib/app/new"]["change"], "created");
    assert_eq!(written["/var/log/app/gone"]["change"], "deleted");
    assert_eq!(
        (&written["/srv"]["change"], &written["/srv"]["mode"]),
        (&json!("changed"), &json!(0o700))
    );
    // What the runtime makes (mount points) is not the program's.
    assert!(
        written.get("/dev").is_none() && written.get("/proc").is_none(),
        "{done}"
    );
}

#[test]
fn programs_sockets_and_calls_are_seen() {
    let container = shell("learn-calls", "cp /usr/bin/busybox /tmp/ls; /tmp/ls /; id; exit 0");
    let done = learn(&container, &[]).ok();
    let report = report(&done);
    let programs = &report["seen"]["programs"];
    for path in ["/usr/bin/busybox", "/tmp/ls"] {
        assert!(programs.as_array().unwrap().contains(&json!(path)), "{path}: {done}");
    }
    assert_eq!(report["needs"]["volumes"][0]["path"], "/tmp", "{done}");
    assert!(
        report["ready"]["podman"]
            .as_str()
            .unwrap()
            .contains("--tmpfs /tmp:exec"),
        "{done}"
    );
    // Where the kernel lets us look: a machine may forbid it.
    if let Some(calls) = report["seen"]["calls"].as_array() {
        assert!(
            calls.contains(&json!("execve")) && calls.contains(&json!("getuid")),
            "{done}"
        );
        let profile = &report["ready"]["seccomp"];
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO", "{done}");
    } else {
        assert!(report["seen"]["unseen"].to_string().contains("system calls"), "{done}");
    }
    assert!(
        report["seen"]["memory_peak"].as_u64().is_some_and(|peak| peak > 0),
        "{done}"
    );
}

/// As another user: what fails under any runtime is made possible, one thing after the other.
#[test]
fn what_a_program_ends_over_is_what_it_needs() {
    let script = "echo $$ >/run/app.pid || exit 1; mkdir /var/lib/app/x || exit 2; echo log >/var/log/app/log || exit 3; echo s >/run/app/s || exit 4";
    let mut container = shell("learn-user", script);
    container
        .bundle
        .config
        .set("/process/user", json!({"uid": 1000, "gid": 1000}));
    container.bundle.write_config();
    fs::write(container.bundle.rootfs().join("var/log/app/log"), "root's").unwrap();
    let record = container.bundle.dir.join("record.json").display().to_string();
    let done = learn(&container, &["--merge", &record]).ok();
    let found = report(&done);
    assert_eq!(
        holes(&found),
        set(&["/run:mode=1777", "/run/app:mode=1777", "/var/lib/app:mode=1777"]),
        "{done}"
    );
    let volume = &found["needs"]["volumes"][0];
    assert_eq!(
        (&volume["path"], &volume["empty"]),
        (&json!("/var/log/app"), &json!(true)),
        "{done}"
    );
    // And it is proved.
    let done = learn(&container, &["--merge", &record, "--prove"]).ok();
    assert_eq!(report(&done)["proof"]["holds"], true, "{done}");
    // Without one of them it is named.
    let mut text: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    let needed = text["needed"].as_array_mut().unwrap();
    needed.retain(|one| one["missing"]["dir"] != "/run/app");
    fs::write(&record, text.to_string()).unwrap();
    let done = learn(&container, &["--merge", &record, "--prove"]).fails_with(3);
    let proof = report(&done)["proof"].clone();
    assert_eq!(proof["missing"]["holes"][0]["path"], "/run/app", "{done}");
}

#[test]
fn runs_add_up_in_a_record() {
    let mut container = shell("learn-merge", "touch /var/lib/app/a");
    let record = container.bundle.dir.join("record.json").display().to_string();
    learn(&container, &["--merge", &record]).ok();
    container
        .bundle
        .config
        .set("/process/args", json!(["sh", "-c", "touch /var/log/app/b"]));
    container.bundle.write_config();
    let done = learn(&container, &["--merge", &record]).ok();
    assert_eq!(holes(&report(&done)), set(&["/var/lib/app", "/var/log/app"]), "{done}");
    let shown = container.op(&["learn", "--merge", &record, "--format", "json"]).ok();
    assert_eq!(report(&shown)["seen"], report(&done)["seen"]);
    fs::write(&record, "{}").unwrap();
    let done = container.op(&["learn", "--merge", &record]).fails_with(1);
    assert!(done.err.contains("no record of learn's"), "{done}");
}

#[test]
fn what_is_missing_is_named_as_it_stands() {
    let container = shell("learn-as-is", "echo x >/var/lib/app/a || exit 1");
    let done = learn(&container, &["--prove", "--as-is"]).fails_with(3);
    let report = report(&done);
    assert_eq!(report["proof"]["missing"]["holes"][0]["path"], "/var/lib/app", "{done}");
    assert_eq!(report["proof"]["exit_code"], 1, "{done}");
}

/// A service, which is asked and ended then.
#[test]
fn a_service_is_asked_until_it_answers() {
    let container = shell("learn-ask", "mkdir /var/lib/app/ready; exec sleep 600");
    let ask = container.command(&["exec", container.id(), "ls", "/var/lib/app/ready"]);
    let words: Vec<String> = std::iter::once(ask.get_program())
        .chain(ask.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let done = learn(&container, &["--ask", &words.join(" ")]).ok();
    assert_eq!(holes(&report(&done)), set(&["/var/lib/app"]), "{done}");
    // One that never answers is no success, and ends in time.
    let done = learn(&container, &["--ask", "false", "--for", "1", "--rounds", "0"]).fails_with(3);
    assert_eq!(report(&done)["seen"]["runs"], 1, "{done}");
}

#[test]
fn a_capability_beyond_the_usual_is_found_and_proved() {
    let container = {
        let mut bundle = Bundle::with_busybox("learn-chroot");
        bundle
            .config
            .set("/process/args", json!(["busybox", "chroot", "/", "/usr/bin/true"]));
        Container::new(bundle).policy(&Policy::hardened())
    };
    let done = learn(&container, &["--prove"]).ok();
    let report = report(&done);
    assert_eq!(report["needs"]["capabilities"], json!(["SYS_CHROOT"]), "{done}");
    assert!(
        report["ready"]["exception"]
            .as_str()
            .unwrap()
            .contains("capabilities.allow = [\"CAP_SYS_CHROOT\"]"),
        "{done}"
    );
    let done = learn(&container, &["--prove", "--as-is"]).fails_with(3);
    let missing = super::report(&done)["proof"]["missing"]["capabilities"].clone();
    assert_eq!(missing, json!(["SYS_CHROOT"]), "{done}");
}

/// A profile that the spec brings holds while it is watched.
#[test]
fn a_profile_of_the_specs_stays_in_force() {
    let mut container = shell("learn-profile", "mkdir /var/lib/app/x && exit 9; touch /var/lib/app/y");
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]});
    container.bundle.config.set("/linux/seccomp", profile);
    container.bundle.write_config();
    let done = learn(&container, &[]).ok();
    assert_eq!(holes(&report(&done)), set(&["/var/lib/app"]), "{done}");
}
