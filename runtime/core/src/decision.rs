//! Verdicts: what a control did to a request, in words that `check`, messages and the audit log share.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::id::{About, ControlId};
use crate::printable::printable;

/// The one outcome of a control. Ordered: the gravest change gives the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[must_use]
pub enum Verdict {
    /// The request already was as the policy wants it, or the control has nothing to say of it.
    Kept,
    /// Something was put in that the request did not have.
    Added,
    /// Something was made narrower.
    Tightened,
    /// Runs, but a person should know.
    Warned,
    /// Does not run.
    Refused,
}

impl Verdict {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Added => "added",
            Self::Tightened => "tightened",
            Self::Warned => "warned",
            Self::Refused => "refused",
        }
    }

    /// As it reads where it may only be written down.
    pub const fn word(self, mode: Mode) -> &'static str {
        match (mode, self) {
            (Mode::Enforce, verdict) => verdict.as_str(),
            (Mode::Observe, Self::Kept) => "kept",
            (Mode::Observe, Self::Added) => "would add",
            (Mode::Observe, Self::Tightened) => "would tighten",
            (Mode::Observe, Self::Warned) => "would warn",
            (Mode::Observe, Self::Refused) => "would refuse",
        }
    }
}

/// Whether a decision was carried out, or only written down (permissive level, a loosened control).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Enforce,
    Observe,
}

/// One thing that a control changed, noted or refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub verdict: Verdict,
    /// Where in config.json, or which path, device or name.
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<String>,
    pub reason: String,
    /// For a refusal: `<control id>.<reason>`, stable for machines.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    /// For a refusal: the smallest thing a person can do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
}

/// What one control decided: exactly one verdict, with the changes behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub control: ControlId,
    pub verdict: Verdict,
    pub mode: Mode,
    pub changes: Vec<Change>,
    pub refs: Vec<String>,
}

impl Decision {
    /// The refusals that stop the container. A refusal that is only observed stops nothing.
    pub fn refusals(&self) -> impl Iterator<Item = &Change> {
        let live = self.mode == Mode::Enforce;
        self.changes
            .iter()
            .filter(move |c| live && c.verdict == Verdict::Refused)
    }

    /// The change that gave the verdict, for one-line displays.
    pub fn gravest(&self) -> Option<&Change> {
        self.changes.iter().find(|c| c.verdict == self.verdict)
    }
}

/// What a control collects while it decides.
#[derive(Debug, Default)]
pub struct Findings {
    changes: Vec<Change>,
}

impl Findings {
    fn push(
        &mut self,
        verdict: Verdict,
        path: impl Into<String>,
        from: Option<String>,
        to: Option<String>,
        why: impl Into<String>,
    ) {
        let (path, reason) = (path.into(), why.into());
        self.changes.push(Change {
            verdict,
            path,
            from,
            to,
            reason,
            code: None,
            remedy: None,
        });
    }

    pub fn kept(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.push(Verdict::Kept, path, None, None, why);
    }

    pub fn added(&mut self, path: impl Into<String>, to: impl Into<String>, why: impl Into<String>) {
        self.push(Verdict::Added, path, None, Some(to.into()), why);
    }

    pub fn tightened(
        &mut self,
        path: impl Into<String>,
        from: impl Into<String>,
        to: impl Into<String>,
        why: impl Into<String>,
    ) {
        self.push(Verdict::Tightened, path, Some(from.into()), Some(to.into()), why);
    }

    pub fn warned(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.push(Verdict::Warned, path, None, None, why);
    }

    /// Refuses. `code` is the part after the control's id («host-network»), `what` says what was refused and why,
    /// `remedy` what to do, in the caller's word.
    pub fn refused(
        &mut self,
        code: &'static str,
        path: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.changes.push(Change {
            verdict: Verdict::Refused,
            path: path.into(),
            from: None,
            to: None,
            reason: what.into(),
            code: Some(code.to_owned()),
            remedy: Some(remedy.into()),
        });
    }

    /// Tells whether something at this path was refused already.
    pub fn refuses(&self, path: &str) -> bool {
        self.changes
            .iter()
            .any(|c| c.verdict == Verdict::Refused && c.path == path)
    }

    pub(crate) fn into_decision(mut self, control: ControlId, about: &About) -> Decision {
        for change in &mut self.changes {
            // Here, since no control can forget it; what a machine compares (path, from, to) stays as it was written.
            for words in [Some(&mut change.reason), change.remedy.as_mut()].into_iter().flatten() {
                if let Cow::Owned(shown) = printable(words) {
                    *words = shown;
                }
            }
            if let Some(code) = &mut change.code {
                *code = format!("{control}.{code}");
            }
        }
        let verdict = self.changes.iter().map(|c| c.verdict).max().unwrap_or(Verdict::Kept);
        let refs = about.refs.iter().map(|r| (*r).to_owned()).collect();
        Decision {
            control,
            verdict,
            mode: Mode::Enforce,
            changes: self.changes,
            refs,
        }
    }
}
