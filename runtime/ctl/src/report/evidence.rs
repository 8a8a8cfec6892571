//! The audit records of one container, each by its hash, and whether the chain that they are in holds.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::anchors::{self, Source};
use gabion_common::audit::Trail;
use gabion_core::digest::sha256_hex;
use gabion_core::request::ContainerId;
use gabion_see::audit::{chain, place, verify};
use gabion_see::state::StateView;
use gabion_see::vetted::{self, Kind, Links, Owner, Rules};
use serde::{Deserialize, Serialize};

/// What the log has of one container.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Evidence {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<PathBuf>,
    /// `holds`, `broken` or `not read`, with why.
    pub(crate) chain: String,
    /// The newest record of the log when this was written: number and hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) head: Option<Head>,
    /// How many records of each kind there are.
    pub(crate) counts: BTreeMap<String, u64>,
    /// All but those of exec, which can be many: the newest [`MOST`].
    pub(crate) records: Vec<Record>,
    pub(crate) left_out: u64,
}

/// A record by its place in the chain.
#[derive(Debug, Serialize)]
pub(crate) struct Head {
    pub(crate) seq: u64,
    pub(crate) sha256: String,
}

/// One record, to be found again.
#[derive(Debug, Serialize)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) time: String,
    pub(crate) event: String,
    /// SHA-256 of its line, without the line's end: the `prev` of the record after it.
    pub(crate) sha256: String,
}

/// How many records are named.
const MOST: usize = 50;

/// The longest line that can be a record.
const MAX_LINE: u64 = 4 << 20;

#[derive(Deserialize)]
struct Line {
    seq: u64,
    time: String,
    event: String,
    #[serde(default)]
    id: Option<String>,
}

/// Collects them. A log that is missing or broken is told of, and hides nothing of what attest found.
pub(super) fn collect(root: &Path, id: &ContainerId) -> Evidence {
    let trail = StateView::open(root, id).and_then(|dir| Trail::load(&dir));
    let (file, keeping) = match trail {
        Ok(Some(Trail {
            file: Some(file),
            keeping,
            ..
        })) => (file, keeping),
        Ok(_) => return untold("no log is kept of this container"),
        Err(error) => return untold(&error.to_string()),
    };
    let mut evidence = Evidence::default();
    // With the head that gabion keeps: a log that was cut holds by itself.
    let elsewhere = [Source::Journald, Source::Syslog, Source::Kernel];
    let head = anchors::collect(&file, &keeping, true, &elsewhere);
    evidence.chain = match head.and_then(|head| verify::verify(&file, &head.remembered, 0)) {
        Ok(Ok(whole)) => {
            evidence.head = whole.head.map(|head| Head {
                seq: head.seq,
                sha256: head.hash,
            });
            "holds".to_owned()
        }
        Ok(Err(fault)) => format!("broken: {fault}"),
        Err(trouble) => format!("not read: {trouble}"),
    };
    if let Err(error) = read(&file, id.as_str(), &mut evidence) {
        evidence.chain = format!("not read: {error}");
    }
    evidence.file = Some(file);
    evidence
}

fn untold(why: &str) -> Evidence {
    Evidence {
        chain: format!("not read: {why}"),
        ..Evidence::default()
    }
}

/// Oldest first: what rotation kept, then the log itself.
fn read(file: &Path, id: &str, evidence: &mut Evidence) -> std::io::Result<()> {
    let name = place::name(file).map_err(|trouble| std::io::Error::other(trouble.to_string()))?;
    let kept = chain::numbers(file)?
        .into_iter()
        .rev()
        .map(|n| file.with_file_name(chain::kept(name, n)));
    let mut newest: VecDeque<Record> = VecDeque::new();
    for path in kept.chain([file.to_owned()]) {
        // A FIFO of somebody's would be waited for for ever.
        let rules = Rules {
            kind: Kind::File,
            owner: Owner::Anybody,
            forbidden: 0,
            largest: u64::MAX,
            links: Links::Follow,
        };
        match vetted::open(&path, &rules) {
            Ok(opened) => lines(opened, id, evidence, &mut newest)?,
            Err(vetted::Fault::Missing) => {}
            Err(fault) => return Err(std::io::Error::other(fault.to_string())),
        }
    }
    evidence.records = newest.into();
    Ok(())
}

fn lines(from: impl Read, id: &str, evidence: &mut Evidence, newest: &mut VecDeque<Record>) -> std::io::Result<()> {
    let mut from = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        if from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        // What is no record is told of by the chain.
        let Ok(record) = serde_json::from_slice::<Line>(line) else {
            continue;
        };
        if record.id.as_deref() != Some(id) {
            continue;
        }
        *evidence.counts.entry(record.event.clone()).or_default() += 1;
        if record.event == "exec" {
            continue;
        }
        if newest.len() == MOST {
            newest.pop_front();
            evidence.left_out += 1;
        }
        newest.push_back(Record {
            seq: record.seq,
            time: record.time,
            event: record.event,
            sha256: sha256_hex(line),
        });
    }
}
