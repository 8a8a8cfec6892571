#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::harden::harden;
use crate::policy::Policy;
use crate::testing::Case;

fn act(text: &str) -> Act {
    let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    Act::parse(&words).unwrap_or_else(|NotAnAct(why)| unreachable!("{text}: {why}"))
}

fn case() -> Case {
    let mount =
        |to: &str, options: &[&str]| json!({"destination": to, "type": "tmpfs", "source": "tmpfs", "options": options});
    let mut case = Case::new().with("/root/readonly", json!(false));
    for one in [
        mount("/data", &["rw"]),
        mount("/ro", &["ro"]),
        mount("/x", &["rw", "exec"]),
    ] {
        case.json["mounts"].as_array_mut().unwrap().push(one);
    }
    case
}

/// Who says no, in their order.
fn denied(case: &Case, text: &str) -> String {
    let hardened = harden(&case.request(), &case.policy, &case.host).unwrap_or_else(|d| unreachable!("{d:?}"));
    let verdict = judge(&hardened, &act(text));
    let name = |denied: &Denied| match denied.by {
        By::Control(id) => id.as_str().to_owned(),
        By::Spec => "spec".to_owned(),
    };
    assert!(verdict.denied.iter().all(|d| !d.loosen.is_empty()));
    verdict.denied.iter().map(name).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_layer_that_says_no_is_named() {
    for (text, by) in [
        ("exec /usr/bin/true", ""),
        ("exec /tmp/x", "holes landlock"),
        ("exec /tmp/../tmp/x", "holes landlock"),
        ("exec /data/x", "mounts landlock"),
        ("exec /x/x", ""),
        ("exec /ro/x", ""),
        ("exec /proc/1/x", "mounts landlock"),
        ("write /opt/x", "rootfs landlock"),
        ("write /tmp/x", ""),
        ("write /tmpfile", "rootfs landlock"),
        ("write /data/x", ""),
        ("write /ro/x", "mounts landlock"),
        ("write /proc/sys/kernel/x", "masked_paths"),
        ("write /proc/self/comm", ""),
        ("write /sys/x", "mounts landlock"),
        ("read /proc/kcore", "masked_paths"),
        ("read /etc/passwd", ""),
        ("open /dev/null", ""),
        ("open /dev/fuse", "devices"),
        ("cap CHOWN", "spec"),
        ("cap KILL", ""),
        ("cap CAP_NET_RAW", "capabilities"),
        ("cap sys_admin", "capabilities"),
        ("bind 80", ""),
        ("connect 10.0.0.1:443", ""),
    ] {
        assert_eq!(denied(&case(), text), by, "{text}");
    }
}

#[test]
fn what_is_loosened_says_no_no_longer() {
    let with = |policy: &str| {
        let mut case = case();
        case.policy.policy = Policy::clone(&crate::policy::parse(policy).unwrap());
        case
    };
    // One of two layers is not enough; the key takes off both.
    assert_eq!(
        denied(&with("[controls]\nmounts = \"observe\""), "exec /data/x"),
        "landlock"
    );
    assert_eq!(
        denied(&with("[controls]\nlandlock = \"observe\""), "exec /data/x"),
        "mounts"
    );
    assert_eq!(denied(&with("[mounts]\nexec_paths = [\"/data\"]"), "exec /data/x"), "");
    let hole = case().with("/annotations/dev.gabion.holes", json!("/opt:size=16m"));
    assert_eq!(denied(&hole, "write /opt/x"), "");
    let ports = case().with("/annotations/dev.gabion.landlock.tcp-connect", json!("443"));
    assert_eq!(denied(&ports, "connect 443"), "");
    assert_eq!(denied(&ports, "connect 80"), "landlock");
    let user = case()
        .with("/process/user/uid", json!(1000))
        .with("/process/capabilities/ambient", json!([]));
    assert_eq!(denied(&user, "bind 80"), "spec");
    assert_eq!(denied(&user, "bind 8080"), "");
    let sysctl = user.with("/linux/sysctl", json!({"net.ipv4.ip_unprivileged_port_start": "0"}));
    assert_eq!(denied(&sysctl, "bind 80"), "");
}

#[test]
fn words_that_are_no_act_are_told() {
    for (text, why) in [
        ("exec", "a verb"),
        ("run /x", "none of"),
        ("exce /x", "did you mean exec?"),
        ("exec x", "absolute"),
        ("bind many", "no TCP port"),
        ("cap KARAOKE", "no capability"),
        ("call read x", "no number"),
        ("call read 1 2 3 4 5 6 7", "six"),
        ("read /a /b", "one word"),
    ] {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let NotAnAct(told) = Act::parse(&words).unwrap_err();
        assert!(told.contains(why), "{text}: {told}");
    }
}
