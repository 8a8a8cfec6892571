//! A policy file: `validate` and the parser agree on it, and whatever it says, nothing that is asked for comes out weaker.
#![no_main]

use std::sync::OnceLock;

use gabion_core::policy::parse;
use gabion_core::policy::validate::{Gravity, validate};
use gabion_core::policy::{Lock, Policy};
use gabion_core::request::Request;
use golden::host::HostFile;
use golden::invariants::of_any_policy;
use golden::{engine_configs, request};
use libfuzzer_sys::fuzz_target;

/// A pod's container, a sandbox, and podman's.
fn requests() -> &'static [Request] {
    static REQUESTS: OnceLock<Vec<Request>> = OnceLock::new();
    REQUESTS.get_or_init(|| {
        let chosen = ["containerd-cri-container", "containerd-cri-sandbox", "podman-default"];
        let all = engine_configs().expect("the engines' configs");
        let all = all.into_iter().filter(|(name, _)| chosen.contains(&name.as_str()));
        let all: Vec<_> = all
            .map(|(_, config)| request("c1", config).expect("a config"))
            .collect();
        assert_eq!(all.len(), chosen.len());
        all
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let problems = validate(text, gabion_core::policy::Date::of(std::time::Duration::ZERO));
    let lines = text.split('\n').count();
    for problem in &problems {
        assert!(
            (1..=lines).contains(&problem.line) && problem.column >= 1,
            "{problem:?}"
        );
    }
    let wrong = problems.iter().any(|p| p.gravity == Gravity::Error);
    let parsed = parse(text);
    assert_eq!(wrong, parsed.is_err(), "{problems:?} beside {:?}", parsed.err());
    let Ok(policy) = parsed else { return };
    let locked = Policy {
        lock: Lock::Locked,
        ..policy.clone()
    };
    assert_eq!(locked.weaker_than(&locked), None, "weaker than itself");
    for request in requests() {
        let host = HostFile::default().build(request);
        of_any_policy(request, &policy.effective(request, &host, "test"));
    }
});
