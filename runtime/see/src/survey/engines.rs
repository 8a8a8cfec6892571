//! The places of engines on this host: by their configuration, and by what their own call says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gabion_core::control::mounts;
use gabion_core::docker::{self, Build};
use gabion_core::engines::{FILES, containerd_of};
use gabion_core::host::SourcePath;
use gabion_core::request::Request;

use crate::vetted::{self, Kind, Links, Owner, Rules};

/// Root's file, that nobody else can write to. One of somebody else's tells nothing of an engine of root's.
const RULES: Rules = Rules {
    kind: Kind::File,
    owner: Owner::CallerRootOrUnmapped,
    forbidden: 0o022,
    largest: 1 << 20,
    links: Links::Follow,
};

/// Gives Docker's data-root, where dockerd asks.
pub(super) fn dockers_root(request: &Request, sources: &BTreeMap<usize, SourcePath>) -> Option<PathBuf> {
    sources.values().find_map(|source| match source {
        SourcePath::Open(source) => mounts::dockers_root(&source.real, request).map(Path::to_owned),
        SourcePath::Unreadable(_) => None,
    })
}

/// Reads in Docker's files of the container whether it is a step of a build.
pub(super) fn dockers_build(request: &Request, dockers_root: Option<&Path>) -> Build {
    let Some(root) = dockers_root else { return Build::No };
    let id = request.id.as_str();
    let rules = Rules {
        links: Links::Refuse,
        ..RULES
    };
    let read = |name: &str| {
        let path = root.join("containers").join(id).join(name);
        vetted::open(&path, &rules)
            .and_then(|open| vetted::read(open, &rules))
            .ok()
    };
    match (read("config.v2.json"), read("hostconfig.json")) {
        (Some(config), Some(host_config)) => docker::build(id, &config, &host_config),
        _ => Build::No,
    }
}

/// Gives the roots and sockets of engines. A link on the way is followed: what is judged has none.
pub(super) fn places(request: &Request, dockers_root: Option<&PathBuf>) -> Vec<PathBuf> {
    let told = FILES.iter().filter_map(|file| {
        let text = vetted::open(Path::new(file.path), &RULES)
            .and_then(|open| vetted::read(open, &RULES))
            .ok()?;
        Some(file.places(&String::from_utf8(text).ok()?))
    });
    let called = containerd_of(&request.bundle).map(Path::to_owned);
    let all = told.flatten().chain(called).chain(dockers_root.cloned());
    all.map(|place| place.canonicalize().unwrap_or(place)).collect()
}
