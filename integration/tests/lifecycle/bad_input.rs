//! Input that cannot be used: its own clear message, exit 1, and nothing left.

use crate::gabion;
use integration::{Bundle, Container, Policy};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

/// Create must fail with 1, one line that holds these words, and nothing left.
#[track_caller]
fn fails(container: &Container, words: &[&str]) {
    let done = container.create();
    assert!(done.code == 1, "{done}");
    if gabion() {
        assert_eq!(done.err.trim_end().lines().count(), 1, "{done}");
        assert!(done.err.len() < 2000, "a message for people: {} bytes", done.err.len());
        let done = done.says(words);
        assert!(!done.err.contains("panicked"), "{done}");
    }
    container.nothing_left();
}

fn edited(test: &str, words: &[&str], edit: impl FnOnce(&mut Bundle)) {
    let mut bundle = Bundle::new(test);
    edit(&mut bundle);
    fails(&Container::new(bundle).policy(&Policy::hardened()), words);
}

fn content(test: &str, words: &[&str], bytes: &[u8]) {
    let container = Container::new(Bundle::new(test)).policy(&Policy::hardened());
    fs::write(container.bundle.bundle().join("config.json"), bytes).unwrap();
    fails(&container, words);
}

#[test]
fn truncated_json() {
    content(
        "bad-truncated",
        &["config.json"],
        br#"{"ociVersion": "1.0.2", "process": {"#,
    );
}

/// A capital letter must not cost a mask: refused by the right name, in what is said of a container, of an exec and of new limits.
#[test]
fn keys_in_other_letters() {
    if !gabion() {
        return;
    }
    edited(
        "bad-letters",
        &["bundle.spelling", "linux.maskedPaths", "MaskedPaths"],
        |bundle| {
            let config = &mut bundle.config;
            config.set("/linux/MaskedPaths", json!(["/etc"]));
        },
    );
    edited("bad-capability", &["bundle.spelling", "CAP_KARAOKE"], |bundle| {
        bundle.config.add_capability("CAP_KARAOKE");
    });
    let container = Container::new(Bundle::new("bad-letters-later")).policy(&Policy::hardened());
    container.create().ok();
    container.start().ok();
    let file = container.bundle.dir.join("file.json");
    let path = file.to_str().unwrap();
    let process = json!({"args": ["/usr/bin/probe", "id"], "cwd": "/", "User": {"uid": 1000, "gid": 1000}});
    fs::write(&file, process.to_string()).unwrap();
    let done = container.op(&["exec", "--process", path, container.id()]);
    done.fails_with(255).says(&["bundle.spelling", "user", "User"]);
    fs::write(&file, r#"{"pids":{"Limit":9}}"#).unwrap();
    let done = container.op(&["update", "-r", path, container.id()]);
    done.fails_with(1).says(&["bundle.spelling", "pids.limit"]);
    fs::write(&file, r#"{"pids":[9]}"#).unwrap();
    let done = container.op(&["update", "-r", path, container.id()]);
    done.fails_with(1).says(&["expected an object for pids"]);
}

#[test]
fn fifty_megabytes() {
    let mut big = br#"{"ociVersion": "1.0.2", "annotations": {"a": ""#.to_vec();
    big.resize(50 << 20, b'x');
    big.extend(br#""}}"#);
    content("bad-big", &["config.json"], &big);
}

#[test]
fn deep_nesting() {
    let deep = [vec![b'['; 200_000], vec![b']'; 200_000]].concat();
    content("bad-deep", &["config.json"], &deep);
}

#[test]
fn no_config() {
    let container = Container::new(Bundle::new("bad-none")).policy(&Policy::hardened());
    fs::remove_file(container.bundle.bundle().join("config.json")).unwrap();
    fails(&container, &["config.json"]);
}

#[test]
fn config_is_a_directory() {
    let container = Container::new(Bundle::new("bad-dir")).policy(&Policy::hardened());
    let path = container.bundle.bundle().join("config.json");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fails(&container, &["config.json"]);
}

#[test]
fn missing_rootfs() {
    edited("bad-rootfs", &["root"], |b| {
        b.config.set("/root/path", "nowhere".into());
    });
}

#[test]
fn rootfs_is_a_symlink() {
    if !gabion() {
        return; // runc follows it.
    }
    edited("bad-rootfs-link", &["root.path", "symbolic link"], |b| {
        symlink("rootfs", b.bundle().join("link")).unwrap();
        b.config.set("/root/path", "link".into());
    });
}

#[test]
fn rootfs_is_the_hosts() {
    if !gabion() {
        return; // runc would run on the machine's own root.
    }
    edited("bad-rootfs-host", &["root"], |b| {
        b.config.set("/root/path", "/".into());
    });
}

fn mountpoint_is_a_symlink(name: &str) {
    edited(&format!("bad-link-{name}"), &[&format!("/{name}")], |b| {
        fs::remove_dir(b.rootfs().join(name)).unwrap();
        symlink("/tmp", b.rootfs().join(name)).unwrap();
    });
}

#[test]
fn proc_is_a_symlink() {
    mountpoint_is_a_symlink("proc");
}

#[test]
fn sys_is_a_symlink() {
    if gabion() {
        mountpoint_is_a_symlink("sys");
    }
}

#[test]
fn dev_is_a_symlink() {
    if gabion() {
        mountpoint_is_a_symlink("dev");
    }
}

#[test]
fn missing_args() {
    edited("bad-args", &["args"], |b| {
        b.config.remove("/process/args");
    });
    edited("bad-args-empty", &["args"], |b| {
        b.config.args(&[]);
    });
}

#[test]
fn an_argument_with_nul() {
    if !gabion() {
        return; // runc cuts it off and runs it.
    }
    edited("bad-nul", &["NUL"], |b| {
        b.config.args(&["/usr/bin/probe", "a\0b"]);
    });
}

#[test]
fn an_unknown_capability() {
    if !gabion() {
        return; // runc warns.
    }
    edited("bad-capability", &["CAP_NO_SUCH_THING"], |b| {
        b.config.add_capability("CAP_NO_SUCH_THING");
    });
}

#[test]
fn an_unknown_namespace_or_a_wrong_type() {
    edited("bad-namespace", &["config.json"], |b| {
        b.config.push("/linux/namespaces", json!({ "type": "nonsense" }));
    });
    edited("bad-type", &["config.json"], |b| {
        b.config.set("/process/user", "root".into());
    });
}

#[test]
fn ids_that_are_paths() {
    let container = Container::new(Bundle::new("bad-id")).policy(&Policy::hardened());
    let long = "x".repeat(5000);
    for id in ["a/b", "../escape", "..", ".", "/", "", "a\nb", long.as_str()] {
        let done = container.op(&["create", "--bundle", &container.path(), id]);
        assert!(done.code == 1, "{id:?}: {done}");
    }
    container.nothing_left();
}

#[test]
fn a_policy_that_others_can_write() {
    if !gabion() {
        return;
    }
    for mode in [0o602, 0o620] {
        let container = Container::new(Bundle::new("bad-policy-mode")).policy(&Policy::hardened());
        let policy = container.bundle.dir.join("policy.toml");
        fs::set_permissions(&policy, fs::Permissions::from_mode(mode)).unwrap();
        fails(&container, &["policy.toml", "writ"]);
    }
}

#[test]
fn a_policy_that_is_another_users_or_no_file() {
    if !gabion() {
        return;
    }
    let container = Container::new(Bundle::new("bad-policy-owner")).policy(&Policy::hardened());
    let policy = container.bundle.dir.join("policy.toml");
    std::os::unix::fs::chown(&policy, Some(1000), None).unwrap();
    fails(&container, &["policy.toml", "belongs to uid 1000"]);
    fs::remove_file(&policy).unwrap();
    fails(&container, &["policy.toml"]);
    fs::create_dir(&policy).unwrap();
    fails(&container, &["policy.toml", "regular file"]);
}

#[test]
fn an_unknown_policy_key_is_named_with_its_line() {
    if !gabion() {
        return;
    }
    let text = "level = \"hardened\"\nlevle = \"permissive\"\n";
    fails(
        &Container::new(Bundle::new("bad-policy-key")).policy_text(text),
        &["levle", "2"],
    );
    let text = "[controls]\nsecomp = \"observe\"\n";
    fails(
        &Container::new(Bundle::new("bad-policy-control")).policy_text(text),
        &["secomp", "2"],
    );
}

#[test]
fn a_locked_policy_is_only_tightened() {
    if !gabion() {
        return;
    }
    let locked = "level = \"hardened\"\nlock = true\n";
    let container = Container::new(Bundle::new("bad-lock"))
        .policy_text(locked)
        .global(&["--level", "permissive"]);
    fails(&container, &["lock"]);
}

#[test]
fn all_refusals_are_told_at_once_in_the_one_form() {
    if !gabion() {
        return;
    }
    let mut bundle = Bundle::new("bad-several");
    bundle
        .config
        .without_namespace("network")
        .add_capability("CAP_SYS_ADMIN")
        .bind("/etc", "/srv", &[]);
    let container = Container::new(bundle).policy(&Policy::hardened());
    let done = container
        .create()
        .fails_with(1)
        .says(&["gabion: refused [", "; remedy: ", "(+2 more: "]);
    for words in [
        "operation not permitted",
        "permission denied",
        "no such file or directory",
    ] {
        assert!(
            !done.err.to_lowercase().contains(words),
            "podman would rewrite it: {done}"
        );
    }
    container.nothing_left();
}

#[test]
fn unknown_options_and_commands() {
    let container = Container::new(Bundle::new("bad-usage"));
    for args in [
        ["create", "--no-such-option"].as_slice(),
        &["no-such-command"],
        &["create"],
        &["kill"],
    ] {
        assert!(container.op(args).code != 0, "{args:?}");
    }
}
