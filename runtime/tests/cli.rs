//! The binary as callers see it: exit codes, streams and the log. Needs no root.
#![allow(clippy::unwrap_used)]

mod programs;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Output, Stdio};

fn gabion(args: &[&str]) -> Output {
    programs::gabion().args(args).output().unwrap()
}

fn stderr(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).unwrap()
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("gabion-cli-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn the_version_is_in_runc_s_form() {
    for flag in ["--version", "-v"] {
        let text = String::from_utf8(gabion(&[flag]).stdout).unwrap();
        assert!(text.starts_with("gabion version 0.1.0\ncommit: "), "{text}");
    }
}

#[test]
fn features_say_nothing_on_stderr() {
    let out = gabion(&["features"]);
    assert!(out.status.success() && out.stderr.is_empty());
    let features: oci_spec::runtime::Features = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(features.oci_version_max(), "1.3.0");
}

#[test]
fn a_failure_is_one_line_and_one_record() {
    let dir = scratch("log");
    let log = dir.join("log.json");
    let log = log.to_str().unwrap();
    for (args, code) in [
        (vec!["create", "-b", "/nonexistent", "c"], 1),
        (vec!["create", "-b", "/nonexistent", "a/b"], 1),
        (vec!["create", "--frob", "c"], 1),
        (vec!["checkpoint", "c"], 1),
        (vec!["exec", "c"], 255),
    ] {
        let all = [vec!["--log", log, "--log-format", "json", "--debug"], args.clone()].concat();
        let out = gabion(&all);
        assert_eq!(out.status.code(), Some(code), "{args:?}");
        assert!(out.stdout.is_empty(), "{args:?}");
        let said = stderr(&out);
        assert_eq!(said.lines().count(), 1, "{said}");
        let text = std::fs::read_to_string(log).unwrap();
        let (before, text) = text.trim_end().rsplit_once('\n').unwrap_or(("", text.trim_end()));
        assert!(
            before.lines().all(|line| line.starts_with(r#"{"level":"debug""#)),
            "{before}"
        );
        let record: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
        assert_eq!(record.keys().collect::<Vec<_>>(), ["level", "msg", "time"]);
        assert_eq!(record["level"], "error");
        assert_eq!(record["msg"], said.trim_end(), "{args:?}");
        std::fs::remove_file(log).unwrap();
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn an_id_that_is_no_file_name_is_refused() {
    for id in ["a/b", "..", "a b", "é"] {
        let out = gabion(&["state", id]);
        assert_eq!(out.status.code(), Some(1), "{id}");
        assert!(stderr(&out).contains("invalid container id"), "{id}");
    }
}

#[test]
fn spec_is_checked_and_never_overwritten() {
    for (name, rootless) in [("root", &[][..]), ("rootless", &["--rootless"][..])] {
        let dir = scratch(name);
        let path = dir.to_str().unwrap();
        let spec = [&["spec", "-b", path], rootless].concat();
        assert!(gabion(&spec).status.success());
        assert_eq!(gabion(&spec).status.code(), Some(1));
        let out = gabion(&["check", "--format", "json", path]);
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(
            (&report["level"], &report["allowed"]),
            (&"hardened".into(), &true.into())
        );
        let decisions = report["decisions"].as_array().unwrap();
        for key in ["control", "verdict", "path", "from", "to", "reason", "refs", "changes"] {
            assert!(decisions.iter().all(|d| d.get(key).is_some()), "{key}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn check_tells_refused_from_unreadable() {
    let check = |input: &str| {
        let mut child = programs::gabion()
            .args(["check", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let asks = r#"{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/","capabilities":
        {"bounding":["CAP_NET_ADMIN"],"effective":[],"permitted":[]}},"root":{"path":"r"},
        "linux":{"namespaces":[{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"network"},{"type":"mount"}]}}"#;
    let out = check(asks);
    assert_eq!(out.status.code(), Some(3));
    let table = String::from_utf8(out.stdout).unwrap();
    assert!(
        table.contains("[capabilities.not-allowed]") && table.contains("REFUSED"),
        "{table}"
    );
    assert!(!table.contains('\x1b'), "colour is for terminals");
    assert_eq!(check("{").status.code(), Some(1));
}

#[test]
fn a_policy_that_cannot_be_used_stops_everything() {
    let dir = scratch("policy");
    let file = dir.join("p.toml");
    std::fs::write(&file, "level = \"hardened\"\nlevle = 1\n").unwrap();
    let out = gabion(&["--policy", file.to_str().unwrap(), "check", "/"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        stderr(&out).contains("line 2, column 1: unknown field `levle`"),
        "{}",
        stderr(&out)
    );
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_summary_counts_bundles() {
    let dir = scratch("summary");
    let inputs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/inputs");
    for name in ["podman-default", "podman-privileged"] {
        // As podman keeps them.
        let bundle = dir.join(name).join("userdata");
        std::fs::create_dir_all(&bundle).unwrap();
        std::fs::copy(inputs.join(format!("{name}.json")), bundle.join("config.json")).unwrap();
    }
    std::fs::create_dir_all(dir.join("broken")).unwrap();
    std::fs::write(dir.join("broken/config.json"), "{").unwrap();
    let path = dir.to_str().unwrap();
    let out = gabion(&["check", "--summary", "--format", "json", path]);
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    let summary: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (&summary["bundles"], summary["unreadable"].as_object().unwrap().len()),
        (&2.into(), 1)
    );
    assert_eq!(summary["codes"]["devices.allow-all"].as_array().unwrap().len(), 1);
    let rows = summary["controls"].as_array().unwrap();
    let total = |row: &serde_json::Value| {
        ["kept", "added", "tightened", "warned", "refused"]
            .iter()
            .map(|k| row[k].as_u64().unwrap())
            .sum::<u64>()
    };
    assert!(rows.len() == 19 && rows.iter().all(|row| total(row) == 2), "{rows:?}");
    let table = String::from_utf8(gabion(&["check", "--summary", path]).stdout).unwrap();
    assert!(
        table.starts_with("2 bundles, level hardened") && table.contains("cannot read"),
        "{table}"
    );
    // permissive: nothing stops, all is counted.
    let out = gabion(&["--level", "permissive", "check", "--summary", path]);
    assert_eq!(out.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&out.stdout).contains("devices.allow-all"));
    assert_eq!(gabion(&["check", path, path]).status.code(), Some(1));
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn codes_are_explained() {
    let out = gabion(&["explain", "mounts.host-path"]);
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(
        text.starts_with("mounts.host-path\n") && text.contains("What helps:"),
        "{text}"
    );
    let listed = String::from_utf8(gabion(&["explain"]).stdout).unwrap();
    assert!(listed.lines().count() > 90);
    let out = gabion(&["explain", "mounts.hostpath"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        stderr(&out).contains("did you mean mounts.host-path?"),
        "{}",
        stderr(&out)
    );
}

#[test]
fn a_policy_is_validated_and_shown() {
    let dir = scratch("validate");
    let file = dir.join("p.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "levle = 1\n[mounts]\nalow = []\n").unwrap();
    let out = gabion(&["policy", "validate", path]);
    assert_eq!(out.status.code(), Some(3));
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(
        said.contains("p.toml:1:1: unknown key `levle`; did you mean `level`?"),
        "{said}"
    );
    assert!(
        said.contains("p.toml:3:1: unknown key `mounts.alow`; did you mean `mounts.allow`?"),
        "{said}"
    );
    std::fs::write(&file, "[cgroup]\npids = 7\n").unwrap();
    assert_eq!(gabion(&["policy", "validate", path]).status.code(), Some(0));
    assert_eq!(gabion(&["policy", "validate", "/nowhere"]).status.code(), Some(1));
    // What only this machine has not: not asked for unless it is to be.
    std::fs::write(&file, "[devices]\nallow = [\"/dev/null\", \"/dev/none-such\"]\n").unwrap();
    assert_eq!(gabion(&["policy", "validate", path]).status.code(), Some(0));
    let out = gabion(&["policy", "validate", "--host", path]);
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(
        out.status.code() == Some(3)
            && said.contains("p.toml:2:23: warning: `devices.allow`: /dev/none-such is not there on this host"),
        "{said}"
    );
    std::fs::write(&file, b"level = \"h\xff\"\n").unwrap();
    let out = gabion(&["policy", "validate", path]);
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(
        out.status.code() == Some(3) && said.contains("p.toml:1:11: byte 0xff"),
        "{said}"
    );
    std::fs::write(&file, "[cgroup]\npids = 7\n").unwrap();
    let out = gabion(&["--policy", path, "--level", "restricted", "policy", "show"]);
    let shown = String::from_utf8(out.stdout).unwrap();
    let row = |key: &str| {
        shown
            .lines()
            .find(|l| l.starts_with(key))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(
        row("cgroup.pids").ends_with("p.toml:2") && row("level").ends_with("--level"),
        "{shown}"
    );
    std::fs::remove_dir_all(dir).unwrap();
}
