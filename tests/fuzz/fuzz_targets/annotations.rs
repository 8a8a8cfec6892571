//! Annotations, which whoever writes a pod chooses: one a line, `key value`. They tighten, or ask for holes within bounds;
//! a name counts only where the policy says whose word it is.
#![no_main]

use std::sync::OnceLock;

use gabion_core::policy::parse;
use gabion_core::policy::{Cri, Level, Policy};
use gabion_core::testing::door_of;
use golden::host::HostFile;
use golden::invariants::{built_in, of_any_policy, of_level};
use golden::{home, json, request};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

const EXCEPTION: &str = r#"
[[exception]]
reason = "fuzzed"
match = { namespace = "kube-system", name = "kube-proxy-*" }
level = "permissive"
"#;

/// Who calls: a bundle, and both CRIs.
const DOORS: [Cri; 3] = [Cri::None, Cri::Containerd, Cri::CriO];

fn policies() -> &'static [Policy] {
    static POLICIES: OnceLock<Vec<Policy>> = OnceLock::new();
    POLICIES.get_or_init(|| {
        let cris = ["none", "containerd", "cri-o"];
        let texts = cris.map(|cri| format!("cri = \"{cri}\"\n{EXCEPTION}"));
        texts.iter().map(|text| parse(text).expect("a policy")).collect()
    })
}

fn base() -> &'static Value {
    static BASE: OnceLock<Value> = OnceLock::new();
    BASE.get_or_init(|| json::read(&home().join("base/bundle.json")).expect("the base of the golden cases"))
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let annotations: Map<String, Value> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
    let namespace = |key: &str| annotations.get(key).and_then(Value::as_str) == Some("kube-system");
    let mut config = base().clone();
    config["annotations"] = Value::Object(annotations.clone());
    let mut request = request("c1", config).expect("annotations are texts");
    for (policy, by) in policies().iter().flat_map(|policy| DOORS.map(|by| (policy, by))) {
        request.channel = door_of(by).0;
        let host = HostFile::default().build(&request);
        let effective = policy.effective(&request, &host, "test");
        let named = by == policy.cri && match policy.cri {
            Cri::None => false,
            Cri::Containerd => namespace("io.kubernetes.cri.sandbox-namespace"),
            Cri::CriO => namespace("io.kubernetes.pod.namespace"),
        };
        assert!(
            named || effective.exceptions.is_empty(),
            "an exception for nobody that it names"
        );
        assert!(named || effective.level >= Level::Hardened, "loosened by its own word");
        if let Some(hardened) = of_any_policy(&request, &effective) {
            assert!(
                hardened.plan().holes.len() <= 3 + 16,
                "more holes than the policy allows"
            );
        }
    }
    // The level that is asked for aside: what a hardened container always has.
    let host = HostFile::default().build(&request);
    let level = built_in(Level::Hardened).policy.effective(&request, &host, "test").level;
    of_level(&request, level);
});
