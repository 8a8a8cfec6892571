//! config.json, from bytes to what would be created, at every level.
#![no_main]

use std::path::Path;

use gabion_core::policy::Level;
use gabion_core::request::Request;
use golden::invariants::{of_level, permissive_changes_nothing};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|text: &[u8]| -> Corpus {
    let id = "c1".parse().expect("an id");
    let Ok(request) = Request::parse(id, "/bundle".into(), text, Path::new("config.json")) else {
        return Corpus::Keep;
    };
    permissive_changes_nothing(&request);
    of_level(&request, Level::Hardened);
    of_level(&request, Level::Restricted);
    Corpus::Keep
});
