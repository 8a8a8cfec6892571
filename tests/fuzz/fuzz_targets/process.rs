//! exec's process.json, from bytes to the process that would run in containers of both levels.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use gabion_core::hardened::Hardened;
use gabion_core::policy::Level;
use gabion_core::request::parse_process;
use golden::invariants::{built_in, exec_gets_no_more, run};
use golden::{home, json, request};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fn containers() -> &'static [Hardened] {
    static CONTAINERS: OnceLock<Vec<Hardened>> = OnceLock::new();
    CONTAINERS.get_or_init(|| {
        let mut config = json::read(&home().join("base/bundle.json")).expect("the base of the golden cases");
        let mut made = Vec::new();
        for (uid, level) in [(0, Level::Hardened), (1000, Level::Restricted)] {
            let patch = json!({"process": {
                "user": {"uid": uid, "gid": uid},
                "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}],
            }});
            json::merge(&mut config, patch);
            let request = request("c1", config.clone()).expect("a config");
            made.push(run(&request, &built_in(level)).expect("it is not refused"));
        }
        made
    })
}

fuzz_target!(|text: &[u8]| {
    let Ok(read) = parse_process(text, Path::new("process.json")) else {
        return;
    };
    for container in containers() {
        exec_gets_no_more(&read.value, container);
    }
});
