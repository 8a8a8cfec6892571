//! What became of a container that was started to make acts.

use crate::Done;
use std::collections::BTreeMap;

#[derive(Debug)]
pub enum Outcome {
    /// It ran: what the kernel answered to each act (`ok`, `ok DETAILS`, `ERRNO at STEP`).
    Answers(BTreeMap<String, String>),
    /// It was refused: `<control id>.<reason>`.
    Refused { code: String, line: String },
    /// Anything else.
    Broken(String),
}

impl Outcome {
    pub fn of(done: &Done) -> Self {
        if let Some((_, rest)) = done.err.split_once("refused [")
            && let Some((code, _)) = rest.split_once(']')
        {
            return Self::Refused {
                code: code.to_owned(),
                line: done.err.trim_end().to_owned(),
            };
        }
        if done.code != 0 {
            return Self::Broken(done.to_string());
        }
        Self::Answers(answers(&done.out))
    }

    /// The answer to one act; fails the test if the container did not run.
    #[track_caller]
    pub fn answer(&self, act: &str) -> &str {
        match self {
            Self::Answers(all) => all
                .get(act)
                .unwrap_or_else(|| panic!("no answer to {act} among {all:?}")),
            other => panic!("the container did not run: {other:?}"),
        }
    }

    /// Fails the test unless the act succeeded; gives the details.
    #[track_caller]
    pub fn ok(&self, act: &str) -> &str {
        let answer = self.answer(act);
        let rest = answer
            .strip_prefix("ok")
            .unwrap_or_else(|| panic!("{act} should succeed: {answer}"));
        rest.trim_start()
    }

    #[track_caller]
    pub fn all_ok(&self, acts: &[&str]) {
        for act in acts {
            self.ok(act);
        }
    }

    /// Fails the test unless the act gave this errno (`EROFS`, or more exactly `EACCES at exec`).
    #[track_caller]
    pub fn denied(&self, act: &str, errno: &str) {
        let answer = self.answer(act);
        assert!(answer.starts_with(errno), "{act} should give {errno}: {answer}");
    }
}

/// The probe's lines.
pub fn answers(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.map(|(act, answer)| (act.to_owned(), answer.to_owned())).collect()
}
