//! One record: what docs/AUDIT.md describes, held together with it by a test. No secrets: of the environment the names only,
//! of arguments what the policy lets be written; every text is bounded, since callers choose it.

use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};

use gabion_core::decision::{Decision, Verdict};
use gabion_core::fact::Fact;
use gabion_core::id::ControlId;
use gabion_core::policy::{ArgsRule, Effective, Level};
use gabion_core::request::{Caller, PodType, Request};

use crate::named::{Named, Names};

/// The schema's version: the record's `v`.
pub const VERSION: u32 = 1;

/// How many entries a list holds at most, when it is written (`bounded`).
pub const MANY: usize = 100;

/// How many characters a text holds at most.
pub(super) const LONG: usize = 512;

/// One line of the log.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    pub v: u32,
    pub seq: u64,
    pub time: &'a str,
    /// /proc/sys/kernel/random/boot_id.
    pub boot: &'a str,
    /// SHA-256 of the bytes of the line before, without its line end.
    pub prev: &'a str,
    /// The real uid of whoever called the runtime.
    pub uid: u32,
    #[serde(flatten)]
    pub event: &'a Event,
    /// Not of records about the log itself.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub subject: Option<&'a Subject>,
}

/// The container, as every record of it names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub id: String,
    pub level: Level,
    /// SHA-256 of the policy that governed create.
    pub policy: String,
    /// Who seems to have written config.json.
    pub caller: Caller,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    /// Reasons of the exceptions that apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<String>,
    /// What its engine calls it, its image and its pod: for people. Nobody vouches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<Named>,
}

/// The pod, where the policy's `cri` vouches for its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    #[serde(rename = "type")]
    pub typ: PodType,
}

impl Subject {
    pub fn new(request: &Request, effective: &Effective) -> Self {
        Self {
            id: request.id.to_string(),
            level: effective.level,
            policy: effective.digest.clone(),
            caller: request.caller(),
            pod: request.pod(effective.cri).map(|pod| Pod {
                namespace: short(pod.namespace),
                name: short(pod.name),
                typ: pod.typ,
            }),
            exceptions: effective.exceptions.iter().map(|r| short(r)).collect(),
            named: Names::default().of(request.id.as_str(), &request.bundle, &request.spec),
        }
    }
}

/// Which command a refusal or failure belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Create,
    Run,
    Start,
    Exec,
    Update,
}

/// Whom a signal was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    Init,
    All,
}

/// How a container was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    Stopped,
    Forced,
    /// By `run`, when the program had ended.
    Ended,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Create {
        bundle: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        process: Option<Program>,
        changes: Vec<Changed>,
    },
    Refusal {
        of: Action,
        codes: Vec<String>,
        message: String,
        changes: Vec<Changed>,
    },
    /// An exception of the policy applies to the container that is created next.
    Exception {
        reason: String,
    },
    Start {},
    Exec {
        process: Program,
        changes: Vec<Changed>,
        /// How many of the same were counted since its last record, and have none.
        #[serde(skip_serializing_if = "none")]
        repeats: u64,
    },
    Update {
        /// As in config.json, `linux.resources`.
        limits: serde_json::Value,
        changes: Vec<Changed>,
    },
    Pause {},
    Resume {},
    Kill {
        signal: i32,
        to: To,
    },
    Delete {
        how: How,
        /// How many execs were counted since their last records, and have none.
        #[serde(skip_serializing_if = "none")]
        repeats: u64,
    },
    Attest {
        differs: Vec<Differs>,
        /// What `--on-differ` asked for: `pause` or `kill`. Its own record follows.
        #[serde(skip_serializing_if = "Option::is_none")]
        act: Option<&'static str>,
    },
    /// What an earlier record announced did not happen.
    Failure {
        of: Action,
        code: String,
        message: String,
    },
    /// The last line had no end: a writer died, or the disk was full. What stands there is bound by its hash.
    Torn {
        bytes: u64,
        sha256: String,
    },
    /// The last line was no record: not gabion's doing.
    Damaged {
        bytes: u64,
        sha256: String,
    },
    /// The log does not have the record that it ended with: it was cut, replaced or removed, or the head that gabion keeps was damaged.
    Lost {
        /// The record's number; 0 where the head itself could not be read.
        expected: u64,
        sha256: String,
        /// What it ended with instead; 0: with nothing.
        found: u64,
        /// The machine was booted since: a power cut can take the newest records, too.
        booted: bool,
    },
}

impl Event {
    /// Whether one of its lists has more entries than are written.
    pub(super) fn is_long(&self) -> bool {
        let long = |lists: &[usize]| lists.iter().any(|length| *length > MANY);
        match self {
            Self::Create { process, changes, .. } => {
                long(&[changes.len(), process.as_ref().map_or(0, |process| process.env.len())])
            }
            Self::Exec { process, changes, .. } => long(&[process.env.len(), changes.len()]),
            Self::Refusal { codes, changes, .. } => long(&[codes.len(), changes.len()]),
            Self::Update { changes, .. } => long(&[changes.len()]),
            Self::Attest { differs, .. } => long(&[differs.len()]),
            Self::Exception { .. }
            | Self::Start {}
            | Self::Pause {}
            | Self::Resume {}
            | Self::Kill { .. }
            | Self::Delete { .. }
            | Self::Failure { .. }
            | Self::Torn { .. }
            | Self::Damaged { .. }
            | Self::Lost { .. } => false,
        }
    }

    pub fn exception(reason: &str) -> Self {
        Self::Exception { reason: short(reason) }
    }
}

/// A program that was to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    pub args: Vec<String>,
    /// How many arguments are not shown: by `redact_args`, or because there are too many.
    #[serde(skip_serializing_if = "is_zero")]
    pub args_left_out: usize,
    /// Names only.
    pub env: Vec<String>,
    pub uid: u32,
    pub gid: u32,
    pub cwd: String,
    pub terminal: bool,
}

// serde hands fields over by reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn none(number: &u64) -> bool {
    *number == 0
}

// The same.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Program {
    pub fn of(process: &Process, rule: ArgsRule) -> Self {
        let args = process.args().as_deref().unwrap_or_default();
        let shown = match rule {
            ArgsRule::Keep => MANY,
            ArgsRule::Redact => 1,
        };
        let env = process.env().as_deref().unwrap_or_default();
        Self {
            args: args.iter().take(shown).map(|a| short(a)).collect(),
            args_left_out: args.len().saturating_sub(shown),
            env: env
                .iter()
                .map(|pair| short(pair.split('=').next().unwrap_or_default()))
                .collect(),
            uid: process.user().uid(),
            gid: process.user().gid(),
            cwd: short(&process.cwd().display().to_string()),
            terminal: process.terminal().unwrap_or(false),
        }
    }
}

/// One thing that a control changed, warned of or refused, in the words of `check`: `tightened`, `would refuse`, …
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    pub control: ControlId,
    pub verdict: &'static str,
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// All changes of all decisions; what was kept is no event.
pub fn changes(decisions: &[Decision]) -> Vec<Changed> {
    let all = decisions.iter().flat_map(|d| d.changes.iter().map(move |c| (d, c)));
    all.filter(|(_, change)| change.verdict != Verdict::Kept)
        .map(|(decision, change)| Changed {
            control: decision.control,
            verdict: change.verdict.word(decision.mode),
            path: short(&change.path),
            from: change.from.as_deref().map(short),
            to: change.to.as_deref().map(short),
            reason: short(&change.reason),
            code: change.code.clone(),
        })
        .collect()
}

/// A fact that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Differs {
    pub control: ControlId,
    pub expected: String,
    pub observed: String,
}

impl Differs {
    pub fn of(fact: &Fact) -> Self {
        Self {
            control: fact.control,
            expected: short(&fact.expected),
            observed: short(&fact.observed),
        }
    }
}

/// A text of bounded length; an ellipsis stands for what is cut.
pub fn short(text: &str) -> String {
    match text.char_indices().nth(LONG) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
