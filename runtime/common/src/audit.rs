//! The audit log: what was created, refused, started, entered, updated, paused, resumed, killed and deleted, one JSON object a line,
//! each bound to the one before it by SHA-256. docs/AUDIT.md has the schema and says what the chain proves and what it does not.
//!
//! Where a container's records go is decided once, at create, and kept beside its state: later calls come with other flags,
//! or none, and must not lead its records elsewhere.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use gabion_core::caller::Reader;
use gabion_core::decision::Decision;
use gabion_core::fact::Fact;
use gabion_core::hardened::{Denial, Hardened};
use gabion_core::policy::{ArgsRule, Effective, OnFailure, RepeatedExec};
use gabion_core::request::Request;
use gabion_see::audit::keeping::Keeping;
use gabion_see::audit::record::{Action, Event, Subject};
use gabion_see::audit::{place, record};
use gabion_see::error::{Error, Result};
use gabion_see::state::StateView;
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use crate::whole;

mod anchors;
mod chain;
mod files;
mod head;
mod repeats;

#[cfg(test)]
mod tests;

/// The file in a container's state directory that says where its records go.
pub const FILE: &str = "audit.json";

/// The file beside it in which execs are counted that have no record of their own.
pub const REPEATS: &str = repeats::FILE;

/// Where one container's records go, and what each of them says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    /// None: no place could be found (a user without a home).
    pub file: Option<PathBuf>,
    pub on_failure: OnFailure,
    pub args: ArgsRule,
    pub subject: Subject,
    /// A container of an older gabion says nothing of it.
    #[serde(default)]
    pub keeping: Keeping,
    /// Whether the policy was read by this very call.
    #[serde(skip)]
    policy: PolicyIs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PolicyIs {
    /// As it was at create.
    #[default]
    Kept,
    New,
}

impl Trail {
    /// For a container that is about to be decided on.
    pub fn begin(request: &Request, effective: &Effective, reader: Reader) -> Self {
        let audit = &effective.policy.audit;
        let file = place::file(audit, reader);
        Self {
            keeping: Keeping::of(audit, file.as_deref()),
            file,
            on_failure: audit.on_failure(effective.level),
            args: audit.redact_args,
            subject: Subject::new(request, effective),
            policy: PolicyIs::New,
        }
    }

    /// Reads where the records of a container go that was created before; None where nothing was kept of it. The directory's owner and
    /// mode were judged when it was opened: what others could have written is not believed.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn load(dir: &StateView) -> Result<Option<Self>> {
        let text = match dir.read(FILE) {
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let trail = serde_json::from_slice(&text).map_err(|e| dir.damaged(FILE, e.to_string()))?;
        Ok(Some(trail))
    }

    /// Keeps it for later calls.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, dir: &StateView) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|e| dir.damaged(FILE, e.to_string()))?;
        whole::write_at(dir.as_fd(), Path::new(FILE), Mode::S_IRUSR | Mode::S_IWUSR, &text)
            .map_err(|e| Error::file("write", dir.path().join(FILE))(e.into()))
    }

    /// Before anything of it is done, so that nothing is done without its record where the policy wants that.
    ///
    /// # Errors
    /// The records cannot be written and `on_failure` is `refuse`.
    pub fn before(&self, events: &[Event]) -> Result<()> {
        match self.append(events) {
            Ok(()) => Ok(()),
            Err(why) if self.on_failure == OnFailure::Refuse => Err(Error::RefusedCall {
                code: "audit.unwritable",
                what: format!("{why}, and nothing may start without its record"),
                remedy:
                    "make the place of [audit] file in /etc/gabion/policy.toml writable, or set on_failure = \"warn\""
                        .to_owned(),
            }),
            Err(why) => {
                warn(&why);
                Ok(())
            }
        }
    }

    /// After the fact: what is refused, has failed, or ends something must not depend on a log.
    pub fn after(&self, event: Event) {
        if let Err(why) = self.append(&[event]) {
            warn(&why);
        }
    }

    fn append(&self, events: &[Event]) -> std::result::Result<(), String> {
        let Some(file) = &self.file else {
            return Err("there is no place for the audit log: neither XDG_STATE_HOME nor HOME is set".to_owned());
        };
        let log = chain::Log {
            path: file,
            keeping: &self.keeping,
            owners: match self.policy {
                PolicyIs::New => chain::Ownership::Mend,
                PolicyIs::Kept => chain::Ownership::Leave,
            },
        };
        chain::append(log, &self.subject, events).map_err(|trouble| trouble.to_string())?;
        tracing::debug!(records = events.len(), "recorded");
        Ok(())
    }

    /// What create and run write ahead: exceptions that apply, the container, for `run` its start.
    pub fn created(&self, action: Action, request: &Request, hardened: &Hardened) -> Result<()> {
        let mut events: Vec<Event> = self.subject.exceptions.iter().map(|r| Event::exception(r)).collect();
        events.push(Event::Create {
            bundle: record::short(&request.bundle.display().to_string()),
            process: hardened
                .spec()
                .process()
                .as_ref()
                .map(|p| record::Program::of(p, self.args)),
            changes: record::changes(hardened.decisions()),
        });
        if action == Action::Run {
            events.push(Event::Start {});
        }
        self.before(&events)
    }

    /// What exec writes ahead: its record, or, where the policy says so and the same was written a moment ago, that there was one more.
    pub fn exec(&self, dir: &StateView, process: &oci_spec::runtime::Process, decision: &Decision) -> Result<()> {
        let changes = record::changes(std::slice::from_ref(decision));
        let repeats = match self.keeping.repeated_exec {
            RepeatedExec::Write => 0,
            RepeatedExec::Count => match repeats::count(dir, process, &changes) {
                repeats::Counted::OneMore => return Ok(()),
                repeats::Counted::Write { repeats } => repeats,
            },
        };
        self.before(&[Event::Exec {
            process: record::Program::of(process, self.args),
            changes,
            repeats,
        }])
    }

    /// Gives how many execs were counted and have no record: what the container's end says of them.
    #[must_use]
    pub fn repeats(&self, dir: &StateView) -> u64 {
        match self.keeping.repeated_exec {
            RepeatedExec::Write => 0,
            RepeatedExec::Count => repeats::pending(dir),
        }
    }

    /// Limits that were changed.
    pub fn updated(&self, limits: &oci_spec::runtime::LinuxResources, decision: &Decision) {
        self.after(Event::Update {
            limits: serde_json::to_value(limits).unwrap_or_default(),
            changes: record::changes(std::slice::from_ref(decision)),
        });
    }

    pub fn refused(&self, action: Action, denial: &Denial) {
        self.after(Event::Refusal {
            of: action,
            codes: denial.refusals().filter_map(|c| c.code.clone()).collect(),
            message: record::short(&denial.to_string()),
            changes: record::changes(&denial.decisions),
        });
    }

    /// What was asked for, allowed, written down, and then did not happen.
    pub fn failed(&self, action: Action, error: &Error) {
        let event = match error {
            Error::Refused(denial) => return self.refused(action, denial),
            Error::RefusedCall { code, .. } => Event::Refusal {
                of: action,
                codes: vec![(*code).to_owned()],
                message: record::short(&error.to_string()),
                changes: Vec::new(),
            },
            _ => Event::Failure {
                of: action,
                code: error.code(),
                message: record::short(&error.to_string()),
            },
        };
        self.after(event);
    }

    /// What `attest` found to differ, and what is going to be done about it.
    pub fn differs(&self, facts: &[&Fact], act: Option<&'static str>) {
        self.after(Event::Attest {
            differs: facts.iter().map(|f| record::Differs::of(f)).collect(),
            act,
        });
    }
}

/// On stderr: a log that is not kept must not go unseen. stderr may be closed: there is nobody else to tell then.
fn warn(why: &str) {
    drop(writeln!(
        std::io::stderr().lock(),
        "gabion: warning: {}",
        why.replace('\n', " ")
    ));
}
