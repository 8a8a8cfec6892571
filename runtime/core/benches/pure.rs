//! What gabion computes before it does anything: parse and harden, the policy. `cargo bench -p gabion-core`.
//!
//! Budgets (docs/BUDGETS.md): parse and harden of a 60 kB config.json 300 µs, a policy 100 µs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a tool for developers: a panic tells enough"
)]

use std::path::Path;

use gabion_core::harden::harden;
use gabion_core::host::Host;
use gabion_core::policy;
use gabion_core::request::Request;
use golden::host::HostFile;
use serde_json::{Value, json};

const SIZE: usize = 60 << 10;

fn main() {
    divan::main();
}

/// A container of Kubernetes in a namespace with a hundred services: each puts seven variables into every environment.
fn config() -> Vec<u8> {
    let home = golden::home();
    let mut config =
        golden::json::read(&home.join("inputs/containerd-cri-container.json")).expect("an engine's config");
    let profile =
        golden::json::read(&home.join("../integration/data/containerd-seccomp.json")).expect("RuntimeDefault");
    config["linux"]["seccomp"] = profile;
    let env = config["process"]["env"].as_array_mut().expect("an environment");
    for number in 0..100 {
        let (name, address) = (format!("BACKEND_{number}"), format!("10.96.{number}.7"));
        env.extend(
            [
                format!("{name}_SERVICE_HOST={address}"),
                format!("{name}_SERVICE_PORT=8080"),
                format!("{name}_PORT=tcp://{address}:8080"),
                format!("{name}_PORT_8080_TCP=tcp://{address}:8080"),
                format!("{name}_PORT_8080_TCP_PROTO=tcp"),
                format!("{name}_PORT_8080_TCP_PORT=8080"),
                format!("{name}_PORT_8080_TCP_ADDR={address}"),
            ]
            .map(Value::from),
        );
    }
    // What people and controllers write beside it, up to 60 kB: a last-applied-configuration is the object once more.
    let key = "kubectl.kubernetes.io/last-applied-configuration";
    config["annotations"][key] = json!("");
    let rest = serde_json::to_vec(&config).expect("JSON").len();
    config["annotations"][key] = json!("x".repeat(SIZE.checked_sub(rest).expect("below 60 kB")));
    serde_json::to_vec(&config).expect("JSON")
}

fn parse(text: &[u8]) -> Request {
    let id = "bench".parse().expect("an id");
    Request::parse(id, "/bundle".into(), text, Path::new("config.json")).expect("a request")
}

#[divan::bench]
fn parse_60_kb(bencher: divan::Bencher) {
    let text = config();
    bencher.bench(|| parse(divan::black_box(&text)));
}

#[divan::bench]
fn parse_and_harden_60_kb(bencher: divan::Bencher) {
    let text = config();
    let host: Host = HostFile::default().build(&parse(&text));
    let node = policy::parse("cri = \"containerd\"").expect("the policy of a node");
    bencher.bench(|| {
        let request = parse(divan::black_box(&text));
        let effective = node.effective(&request, &host, "bench");
        harden(&request, &effective, &host).expect("nothing of it is refused")
    });
}

#[divan::bench(args = ["default.toml", "kubeadm.toml"])]
fn policy_file(bencher: divan::Bencher, name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy").join(name);
    let text = std::fs::read_to_string(file).expect("a policy");
    bencher.bench(|| policy::parse(divan::black_box(&text)).expect("the policy"));
}
