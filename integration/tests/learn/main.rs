//! `gabion learn`: programs are run and watched, and the outcome is what they need; `--prove` says when it is not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

mod engines;
mod random;
mod seen;

use integration::{Bundle, Container, Done, Policy};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A container of a shell's.
fn shell(test: &str, script: &str) -> Container {
    let mut bundle = Bundle::with_busybox(test);
    let applets = ["cp", "rm", "ln", "dd", "chmod"].map(|name| format!("{name}() {{ busybox {name} \"$@\"; }}\n"));
    bundle
        .config
        .set("/process/args", json!(["sh", "-c", applets.concat() + script]));
    Container::new(bundle).policy(&Policy::hardened())
}

/// Runs learn with these words before the id.
fn learn(container: &Container, words: &[&str]) -> Done {
    let path = container.path();
    let all = [
        &["learn", "--bundle", &path, "--format", "json"],
        words,
        &[container.id()],
    ]
    .concat();
    let done = container.op(&all);
    container.nothing_left();
    done
}

fn report(done: &Done) -> Value {
    serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("no JSON ({error}): {done}"))
}

/// The holes as the annotation would have them.
fn holes(report: &Value) -> BTreeSet<String> {
    let text = report["ready"]["annotation"].as_str().unwrap_or_default();
    text.split(',')
        .filter(|entry| !entry.is_empty())
        .map(str::to_owned)
        .collect()
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
