//! A config.json of eight megabytes of one thing is refused in that thing's own words, and in little time.
#![allow(clippy::unwrap_used, reason = "test code: a panic is how a test fails")]

use gabion_core::request::{INVALID, MAX_CONFIG, Request, parse_process, parse_resources};
use serde_json::{Value, json};
use std::path::Path;

/// CPU time of one parse in a test's build: the shipped program takes a tenth of it (docs/BUDGETS.md), and a slow machine three times as much.
const CPU: u64 = 6_000_000_000;

/// The smallest config.json, with this at this place.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = json!({
        "ociVersion": "1.0.2", "root": {"path": "rootfs"},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/"},
        "mounts": [{"destination": "/x", "type": "tmpfs", "source": "tmpfs"}],
        "linux": {"namespaces": [{"type": "mount"}], "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []},
                  "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"}, "personality": {"domain": "LINUX"}}
    });
    let mut at = &mut config;
    for key in pointer.trim_start_matches('/').split('/') {
        at = match key.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[key],
        };
    }
    *at = value;
    config
}

/// How long the text of a list is: beyond every bound. Eight megabytes of each would take a test's build minutes.
const SIZE: usize = 3 << 19;

/// Stands where a list goes: its text is put together by hand, for serde takes minutes over it in a test's build.
const HERE: &str = "HERE";

/// The same with a list of as many as go into `size` bytes.
fn filled(pointer: &str, size: usize, item: impl Fn(usize) -> String, [open, close]: [&str; 2]) -> String {
    let mut list = open.to_owned();
    for i in 0.. {
        let one = item(i);
        if list.len() + one.len() + 1 > size {
            break;
        }
        if i > 0 {
            list.push(',');
        }
        list.push_str(&one);
    }
    list.push_str(close);
    with(pointer, json!(HERE))
        .to_string()
        .replace(&format!("{HERE:?}"), &list)
}

/// CPU time of this thread, in nanoseconds.
fn cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Fails unless it is refused as this field's, in time.
#[track_caller]
fn refused(field: &str, text: &[u8], parse: impl Fn(&[u8]) -> Result<(), gabion_core::request::BadInput>) {
    assert!(text.len() as u64 <= MAX_CONFIG, "{field}: {} bytes", text.len());
    let begin = cpu();
    let bad = parse(text).err();
    let took = cpu() - begin;
    let bad = bad.unwrap_or_else(|| unreachable!("{field} is taken"));
    assert!(
        bad.why.contains(field) && bad.why.contains("at most"),
        "{field}: {}",
        bad.why
    );
    assert!(
        bad.code == INVALID && bad.why.len() < 200,
        "{field}: {} bytes",
        bad.why.len()
    );
    assert!(took < CPU, "{field}: {took} ns");
}

fn config(text: &[u8]) -> Result<(), gabion_core::request::BadInput> {
    let id = "c".parse().unwrap();
    Request::parse(id, "/b".into(), text, Path::new("config.json")).map(drop)
}

#[track_caller]
fn refuses(field: &str, pointer: &str, value: Value) {
    refused(field, with(pointer, value).to_string().as_bytes(), config);
}

/// A list of these.
#[track_caller]
fn list(field: &str, pointer: &str, item: impl Fn(usize) -> String) {
    refused(field, filled(pointer, SIZE, item, ["[", "]"]).as_bytes(), config);
}

/// A map with keys like these.
#[track_caller]
fn map(field: &str, pointer: &str, key: &str, value: &str) {
    let item = |i| format!("\"{key}{i}\":{value}");
    refused(field, filled(pointer, SIZE, item, ["{", "}"]).as_bytes(), config);
}

/// A list of one thing, over and over.
#[track_caller]
fn repeated(field: &str, pointer: &str, item: &str) {
    list(field, pointer, |_| item.to_owned());
}

#[test]
fn of_a_process() {
    repeated("process.args", "/process/args", r#""a""#);
    list("process.env", "/process/env", |i| format!("\"V{i}=\""));
    list("process.user.additionalGids", "/process/user/additionalGids", |i| {
        i.to_string()
    });
    let rlimit = r#"{"type":"RLIMIT_NOFILE","soft":1,"hard":1}"#;
    repeated("process.rlimits", "/process/rlimits", rlimit);
    refuses("process.cwd", "/process/cwd", json!("/a".repeat(40_000)));
    refuses("root.path", "/root/path", json!("/a".repeat(40_000)));
}

#[test]
fn of_an_exec() {
    let config = filled("/process/env", SIZE, |_| "\"V=\"".to_owned(), ["[", "]"]);
    let config: Value = serde_json::from_str(&config).unwrap();
    let process = config["process"].to_string();
    refused("env", process.as_bytes(), |text| {
        parse_process(text, Path::new("process.json")).map(drop)
    });
}

#[test]
fn of_mounts() {
    repeated(
        "mounts",
        "/mounts",
        r#"{"destination":"/m","type":"tmpfs","source":"tmpfs"}"#,
    );
    repeated("mounts[].options", "/mounts/0/options", r#""nosuid""#);
    let many = format!("\"{}\"", "mode=1777,".repeat(1000));
    repeated("mounts[].options", "/mounts/0/options", &many);
    let deep = format!(r#"{{"destination":"/m{}","type":"tmpfs"}}"#, "/d".repeat(2000));
    repeated("the destinations of mounts", "/mounts", &deep);
    let up = json!("/a/..".repeat(16_000));
    refuses("mounts[0].destination", "/mounts/0/destination", up);
    refuses("mounts[0].source", "/mounts/0/source", json!("/a".repeat(40_000)));
    for map in ["uidMappings", "gidMappings"] {
        let line = r#"{"containerID":1,"hostID":1,"size":1}"#;
        repeated(&format!("mounts[0].{map}"), &format!("/mounts/0/{map}"), line);
        repeated(&format!("linux.{map}"), &format!("/linux/{map}"), line);
    }
}

#[test]
fn of_hooks_and_annotations() {
    for kind in [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ] {
        repeated(
            &format!("hooks.{kind}"),
            &format!("/hooks/{kind}"),
            r#"{"path":"/bin/true"}"#,
        );
    }
    let hook = json!([{"path": "/bin/true", "args": vec!["a"; 200_000]}]);
    refuses("hooks.poststop[0].args", "/hooks/poststop", hook);
    map("annotations", "/annotations", "k", "\"v\"");
}

#[test]
fn of_linux() {
    repeated("linux.namespaces", "/linux/namespaces", r#"{"type":"pid"}"#);
    let device = r#"{"path":"/dev/x","type":"c","major":1,"minor":3}"#;
    repeated("linux.devices", "/linux/devices", device);
    for paths in ["maskedPaths", "readonlyPaths"] {
        let (field, pointer) = (format!("linux.{paths}"), format!("/linux/{paths}"));
        list(&field, &pointer, |i| format!("\"/proc/{i}\""));
        repeated(&field, &pointer, &format!("\"{}\"", "/a".repeat(2000)));
        refuses(&format!("{field}[0]"), &pointer, json!(["/a".repeat(40_000)]));
    }
    map("linux.sysctl", "/linux/sysctl", "net.ipv4.x", "\"1\"");
    map("linux.netDevices", "/linux/netDevices", "e", "{}");
    map("linux.timeOffsets", "/linux/timeOffsets", "t", r#"{"secs":1}"#);
    repeated("linux.intelRdt.schemata", "/linux/intelRdt/schemata", r#""L3:0=f""#);
    let flag = r#""MPOL_F_STATIC_NODES""#;
    repeated("linux.memoryPolicy.flags", "/linux/memoryPolicy/flags", flag);
    refuses("linux.cgroupsPath", "/linux/cgroupsPath", json!("/a".repeat(40_000)));
    let path = json!([{"type": "pid", "path": "/a".repeat(40_000)}]);
    refuses("linux.namespaces[0].path", "/linux/namespaces", path);
}

#[test]
fn of_limits() {
    let device = r#"{"major":8,"minor":1,"rate":1}"#;
    let rule = r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"r"}"#;
    for (field, item) in [
        ("devices", rule),
        ("hugepageLimits", r#"{"pageSize":"2MB","limit":1}"#),
        ("network/priorities", r#"{"name":"eth0","priority":1}"#),
        ("blockIO/weightDevice", r#"{"major":8,"minor":1,"weight":10}"#),
        ("blockIO/throttleReadBpsDevice", device),
        ("blockIO/throttleWriteBpsDevice", device),
        ("blockIO/throttleReadIOPSDevice", device),
        ("blockIO/throttleWriteIOPSDevice", device),
    ] {
        let words = format!("linux.resources.{}", field.replace('/', "."));
        repeated(&words, &format!("/linux/resources/{field}"), item);
    }
    map(
        "linux.resources.rdma",
        "/linux/resources/rdma",
        "m",
        r#"{"hcaHandles":1}"#,
    );
    map(
        "linux.resources.unified",
        "/linux/resources/unified",
        "memory.x",
        "\"1\"",
    );
}

#[test]
fn of_an_update() {
    let limits = format!(
        r#"{{"hugepageLimits":[{}{{"pageSize":"2MB","limit":1}}]}}"#,
        r#"{"pageSize":"2MB","limit":1},"#.repeat(1000)
    );
    refused("hugepageLimits", limits.as_bytes(), |text| {
        parse_resources(text, Path::new("limits")).map(drop)
    });
}

#[test]
fn of_a_profile() {
    let rule = r#"{"names":["read"],"action":"SCMP_ACT_ERRNO"}"#;
    repeated("linux.seccomp.syscalls", "/linux/seccomp/syscalls", rule);
    let arch = r#""SCMP_ARCH_X86""#;
    repeated("linux.seccomp.architectures", "/linux/seccomp/architectures", arch);
    let flag = r#""SECCOMP_FILTER_FLAG_LOG""#;
    repeated("linux.seccomp.flags", "/linux/seccomp/flags", flag);
    for name in ["read", "nobody-knows"] {
        let rule = json!([{"names": vec![name; 20_000], "action": "SCMP_ACT_ERRNO"}]);
        refuses("linux.seccomp.syscalls[].names", "/linux/seccomp/syscalls", rule);
    }
    let arg = json!({"index": 0, "value": 1, "op": "SCMP_CMP_EQ"});
    let rule = json!([{"names": ["read", "write"], "action": "SCMP_ACT_ERRNO", "args": vec![arg; 3000]}]);
    refuses("linux.seccomp.syscalls[].args", "/linux/seccomp/syscalls", rule);
}

/// Eight megabytes of what means nothing, or is one thing, are read through and no more.
#[test]
fn eight_megabytes() {
    let size = usize::try_from(MAX_CONFIG).unwrap() - 4096;
    for (name, item, of) in [
        ("unknown lists", "[]", ["[", "]"]),
        ("mounts", r#"{"destination":"/m"}"#, ["[", "]"]),
    ] {
        let pointer = if name == "mounts" { "/mounts" } else { "/unknown" };
        let text = filled(pointer, size, |_| item.to_owned(), of);
        let begin = cpu();
        let refused = config(text.as_bytes()).is_err();
        assert!(cpu() - begin < CPU, "{name}");
        assert_eq!(refused, name == "mounts");
    }
    let deep = [b"[".repeat(size / 2), b"]".repeat(size / 2)].concat();
    assert!(config(&deep).is_err_and(|bad| bad.why.contains("nested deeper")));
}

/// What is far above what engines write is taken.
#[test]
fn large_and_taken() {
    let taken = |pointer: &str, value: Value| {
        let text = with(pointer, value).to_string();
        let bad = config(text.as_bytes()).err();
        assert!(bad.is_none(), "{pointer}: {bad:?}");
    };
    let numbered = |n: usize, item: &dyn Fn(usize) -> Value| Value::Array((0..n).map(item).collect());
    taken("/process/env", json!(vec!["V=1"; 100_000]));
    taken("/process/args", json!(vec!["a"; 100_000]));
    let tmpfs = |i: usize| json!({"destination": format!("/a/b/c/d/e/{i}"), "type": "tmpfs", "source": "tmpfs"});
    taken("/mounts", numbered(1000, &tmpfs));
    taken("/linux/maskedPaths", numbered(1500, &|i| json!(format!("/proc/{i}"))));
    taken(
        "/annotations",
        Value::Object((0..10_000).map(|i| (format!("k{i}"), json!("v"))).collect()),
    );
    taken("/annotations", json!({"k": "v".repeat(2_000_000)}));
}
