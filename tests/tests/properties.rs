//! What holds for every request: properties over the whole table of controls, on requests put together at random from
//! pieces that matter, and on the configs of real engines.

use std::collections::BTreeSet;

use gabion_core::control::CONTROLS;
use gabion_core::policy::{Cri, Level};
use gabion_core::request::Request;
use gabion_core::testing::door_of;
use golden::invariants::{built_in, of_level, permissive_changes_nothing, run};
use golden::{engine_configs, home, json, request};
use proptest::prelude::*;
use serde_json::{Value, json};

fn some_of(pieces: Vec<Value>) -> impl Strategy<Value = Vec<Value>> {
    let most = pieces.len();
    proptest::sample::subsequence(pieces, 0..=most)
}

fn namespaces() -> impl Strategy<Value = Vec<Value>> {
    let pieces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|t| json!({ "type": t }));
    // Mostly whole: a request that is refused at once shows little.
    prop_oneof![
        4 => Just(pieces.to_vec()),
        1 => some_of(pieces.to_vec()),
        1 => Just([pieces.to_vec(), vec![json!({"type": "user", "path": "/proc/9/ns/user"})]].concat()),
    ]
}

fn mount() -> impl Strategy<Value = Value> {
    let words = [
        "rbind", "bind", "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "rprivate", "rslave", "rro",
        "relatime",
    ];
    let place = prop_oneof![
        Just(("/data", "bind", "/srv/data")),
        Just(("/tmp", "tmpfs", "tmpfs")),
        Just(("/scratch", "tmpfs", "tmpfs")),
        Just(("/etc/hosts", "bind", "/etc/hosts")),
        Just(("/h", "bind", "/etc")),
        Just(("/sys", "sysfs", "sysfs")),
    ];
    // In any order: the last of two that contradict each other wins.
    let options = proptest::sample::subsequence(words.to_vec(), 0..=6).prop_shuffle();
    (place, options).prop_map(|((destination, typ, source), options)| {
        json!({"destination": destination, "type": typ, "source": source, "options": options})
    })
}

fn capabilities() -> impl Strategy<Value = Value> {
    let pieces = [
        "CAP_CHOWN",
        "CAP_SETUID",
        "CAP_NET_RAW",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_KILL",
    ];
    let set = || proptest::sample::subsequence(pieces.to_vec(), 0..=6);
    (set(), set(), set(), set())
        .prop_map(|(b, e, i, a)| json!({"bounding": b, "effective": e, "permitted": e, "inheritable": i, "ambient": a}))
}

fn devices() -> impl Strategy<Value = (Vec<Value>, Vec<Value>)> {
    let rules = some_of(vec![
        json!({"allow": false, "access": "rwm"}),
        json!({"allow": true, "type": "c", "access": "m"}),
        json!({"allow": true, "type": "b", "access": "m"}),
        json!({"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rwm"}),
        json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}),
        json!({"allow": false, "type": "c", "major": 5, "minor": 1, "access": "rwm"}),
    ]);
    let nodes = some_of(vec![
        json!({"path": "/dev/null", "type": "c", "major": 1, "minor": 3}),
        json!({"path": "/dev/tty", "type": "c", "major": 5, "minor": 0, "fileMode": 8630}),
    ]);
    (rules, nodes)
}

fn a_request() -> impl Strategy<Value = Request> {
    let flags = (any::<bool>(), any::<bool>(), prop_oneof![Just(0), Just(1000)]);
    let many = proptest::collection::vec(mount(), 0..4);
    (namespaces(), many, capabilities(), devices(), flags).prop_map(
        |(namespaces, mounts, capabilities, (rules, nodes), (readonly, masked, uid))| {
            let mut config = json::read(&home().join("base/bundle.json")).unwrap_or_default();
            let patch = json!({
                "root": {"readonly": readonly},
                "process": {"capabilities": capabilities, "user": {"uid": uid}},
                "linux": {"namespaces": namespaces, "devices": nodes, "resources": {"devices": rules}},
            });
            json::merge(&mut config, patch);
            if !masked {
                json::merge(
                    &mut config,
                    json!({"linux": {"maskedPaths": null, "readonlyPaths": null}}),
                );
            }
            let more = json!({ "/mounts": mounts });
            let appended = json::append(&mut config, Some(more));
            assert_eq!(appended, Ok(()));
            request("c1", config).unwrap_or_else(|e| unreachable!("{e}"))
        },
    )
}

fn level() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::Hardened), Just(Level::Restricted)]
}

fn engines() -> Vec<(String, Request)> {
    let configs = engine_configs().unwrap_or_default();
    assert!(configs.len() > 10, "the engines' configs are gone");
    configs
        .into_iter()
        .map(|(name, config)| {
            let request = request("c1", config).unwrap_or_else(|e| unreachable!("{name}: {e}"));
            (name, request)
        })
        .collect()
}

#[test]
fn ids_are_unique_and_every_control_says_what_it_is_for() {
    let ids: BTreeSet<_> = CONTROLS.iter().map(|c| c.id()).collect();
    assert_eq!(ids.len(), CONTROLS.len());
    for control in CONTROLS {
        let about = control.about();
        let words = [about.threat, about.rule, about.enforced_by, about.kernel_floor];
        // A control whose file is still to be written says nothing at all.
        let written = words.iter().any(|w| !w.is_empty());
        assert!(!written || words.iter().all(|w| !w.is_empty()), "{}", control.id());
        assert!(!written || !about.refs.is_empty(), "{}", control.id());
    }
}

#[test]
fn engines_configs() {
    for (_, request) in engines() {
        permissive_changes_nothing(&request);
        of_level(&request, Level::Hardened);
        of_level(&request, Level::Restricted);
    }
}

/// Puts what acts on a terminal into the text number `at`, names of fields that carry a person's words included.
fn spoil(value: &mut Value, at: &mut usize) -> bool {
    let mut here = |text: &mut String| {
        if *at == 0 {
            let middle = text.char_indices().nth(2).map_or(text.len(), |(i, _)| i);
            text.insert_str(middle, "\u{7f}\u{1b}[2K\n\u{202e}");
        }
        let spoilt = *at == 0;
        *at = at.wrapping_sub(1);
        spoilt
    };
    match value {
        Value::String(text) => here(text),
        Value::Array(items) => items.iter_mut().any(|item| spoil(item, at)),
        Value::Object(map) => {
            for mut key in map.keys().cloned().collect::<Vec<_>>() {
                let old = key.clone();
                if here(&mut key) {
                    let value = map.remove(&old).unwrap_or_default();
                    map.insert(key, value);
                    return true;
                }
            }
            map.values_mut().any(|value| spoil(value, at))
        }
        _ => false,
    }
}

#[test]
fn no_words_of_a_request_reach_a_terminal_as_they_are() {
    let mut refused = 0;
    for (name, mut config) in engine_configs().unwrap_or_default() {
        // Four hundred names of system calls are one case.
        if let Some(rules) = config.pointer_mut("/linux/seccomp/syscalls") {
            *rules = rules.get(0).map(|rule| serde_json::json!([rule])).unwrap_or_default();
        }
        for at in 0.. {
            let mut config = config.clone();
            if !spoil(&mut config, &mut { at }) {
                assert!(at > 100, "{name}: only {at} texts");
                break;
            }
            // What cannot be read has an error of its own.
            let Ok(request) = request("c1", config) else { continue };
            for level in [Level::Hardened, Level::Restricted] {
                of_level(&request, level);
                refused += usize::from(run(&request, &built_in(level)).is_err());
            }
        }
    }
    assert!(refused > 1000, "only {refused} refused");
}

#[test]
fn engines_defaults_run() {
    let own = |config: &str| {
        let at = config
            .find("overlay-containers/")
            .map_or(0, |i| i + "overlay-containers/".len());
        config.get(at..at + 64).unwrap_or("c1").to_owned()
    };
    let mut policy = built_in(Level::Hardened);
    policy.policy.cri = Cri::Containerd;
    for (name, config) in engine_configs().unwrap_or_default() {
        let default = [
            "podman-default",
            "podman-tmpfs-volume",
            "podman-read-only",
            "podman-nonroot-capdrop",
        ];
        // What asks for more: privileged, host namespaces, and a pod that adds SYS_ADMIN to try a seccomp profile.
        let asks = ["privileged", "host", "container-seccomp"];
        let cri = name.starts_with("containerd") && !asks.iter().any(|a| name.contains(a));
        if !default.contains(&name.as_str()) && !cri {
            continue;
        }
        let sandbox = config["annotations"]["io.kubernetes.cri.sandbox-id"].as_str();
        let id = match sandbox {
            // A sandbox's own container has the sandbox's id.
            Some(id) if config["annotations"]["io.kubernetes.cri.container-type"] == "sandbox" => id.to_owned(),
            Some(_) => "c1".to_owned(),
            None => own(&config.to_string()),
        };
        let mut request = request(&id, config).unwrap_or_else(|e| unreachable!("{name}: {e}"));
        if cri {
            request.channel = door_of(Cri::Containerd).0;
        }
        let result = run(&request, &policy);
        assert!(
            result.is_ok(),
            "{name}: {}",
            result.err().map(|d| d.to_string()).unwrap_or_default()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_request(request in a_request(), level in level()) {
        of_level(&request, level);
    }

    #[test]
    fn permissive_only_watches(request in a_request()) {
        permissive_changes_nothing(&request);
    }

    #[test]
    fn restricted_allows_no_more_than_hardened(request in a_request()) {
        if run(&request, &built_in(Level::Restricted)).is_ok() {
            prop_assert!(run(&request, &built_in(Level::Hardened)).is_ok());
        }
    }
}
