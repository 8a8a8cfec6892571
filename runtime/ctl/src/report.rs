//! `report`: attest's rows in the words of frameworks, with the evidence that an auditor asks for.

use std::path::Path;

use gabion_core::attest::Verdict;
use gabion_core::report::{Requirement, requirements};
use gabion_core::request::ContainerId;
use gabion_see::build;
use gabion_see::error::Result;
use serde::Serialize;

use crate::attest::{self, Look, OnDiffer, Report};

mod evidence;
pub(crate) mod html;
pub(crate) mod sarif;
pub(crate) mod text;

use evidence::Evidence;

/// A report on containers.
#[derive(Debug, Serialize)]
pub(crate) struct Whole {
    /// The form of this file.
    pub(crate) version: u32,
    pub(crate) tool: &'static str,
    pub(crate) time: String,
    pub(crate) containers: Vec<Reported>,
    /// Containers that do not run: there is nothing to look at.
    pub(crate) not_running: Vec<ContainerId>,
    pub(crate) failed: Vec<Failed>,
}

/// A container that could not be looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Failed {
    pub(crate) id: ContainerId,
    pub(crate) error: String,
}

/// One container.
#[derive(Debug, Serialize)]
pub(crate) struct Reported {
    /// What attest says: its facts are the evidence of now.
    pub(crate) attest: Report,
    /// SHA-256 of `attest` as JSON, written without blanks: so that this part can be cited.
    pub(crate) attest_sha256: String,
    pub(crate) requirements: Vec<Requirement>,
    /// What the audit log says of it: the evidence of then.
    pub(crate) audit: Evidence,
}

impl Whole {
    pub(crate) fn new() -> Self {
        Self {
            version: 1,
            tool: build::MADE_BY,
            time: gabion_core::time::rfc3339(gabion_see::clock::now()),
            containers: Vec::new(),
            not_running: Vec::new(),
            failed: Vec::new(),
        }
    }
}

/// Looks at one container.
///
/// # Errors
/// Those of attest.
pub(crate) fn of(root: &Path, id: &ContainerId, look: Look) -> Result<Reported> {
    let attest = attest::attest_and(root, id, look, OnDiffer::Report)?;
    let requirements = requirements(attest.about.level, &attest.controls);
    let json = serde_json::to_vec(&attest).map_err(|error| gabion_see::error::Error::File {
        doing: "write as JSON to",
        path: "stdout".into(),
        source: error.into(),
    })?;
    Ok(Reported {
        attest_sha256: gabion_core::digest::sha256_hex(&json),
        requirements,
        audit: evidence::collect(root, id),
        attest,
    })
}

/// What stands above a container's rows, name and value.
fn about(one: &Reported) -> Vec<(&'static str, String)> {
    let (attest, about) = (&one.attest, &one.attest.about);
    let verdict = match attest.verdict {
        Verdict::Holds => "every control is in force, and as it was decided",
        Verdict::Incomplete => "not every control is in force, or could be seen",
        Verdict::Differs => "something DIFFERS from what was decided",
    };
    let mut lines = attest.heading();
    lines.push(("verdict", verdict.to_owned()));
    if !about.exceptions.is_empty() || !attest.not_enforced.is_empty() {
        let off: Vec<&str> = attest.not_enforced.iter().map(|id| id.as_str()).collect();
        let off = if off.is_empty() {
            "none".to_owned()
        } else {
            off.join(", ")
        };
        lines.push(("not enforced", off));
    }
    lines
}

/// The evidence, a line each.
fn evidence(one: &Reported) -> Vec<String> {
    let audit = &one.audit;
    let mut lines = vec![format!(
        "attest: {} at {}, sha256 {}",
        one.attest.id, one.attest.about.time, one.attest_sha256
    )];
    let file = audit
        .file
        .as_ref()
        .map_or_else(|| "none".to_owned(), |file| file.display().to_string());
    lines.push(format!("audit log: {file}; chain {}", audit.chain));
    if let Some(head) = &audit.head {
        lines.push(format!("audit head: record {}, sha256 {}", head.seq, head.sha256));
    }
    let counts: Vec<String> = audit.counts.iter().map(|(event, n)| format!("{n} {event}")).collect();
    if !counts.is_empty() {
        lines.push(format!("records of this container: {}", counts.join(", ")));
    }
    let records = audit.records.iter();
    lines.extend(records.map(|r| format!("record {}, {}, {}: sha256 {}", r.seq, r.time, r.event, r.sha256)));
    if audit.left_out > 0 {
        lines.push(format!("{} older records are not named here", audit.left_out));
    }
    lines
}
