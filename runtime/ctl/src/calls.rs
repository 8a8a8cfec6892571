//! The filters' rules as people read them: policy/seccomp.toml, from which they are built, and what the built programs answer.

use gabion_core::policy::SeccompGroup;
use gabion_see::seccomp::Program;
use gabion_see::seccomp::ask::{Answer, Call, number};
use serde::Deserialize;

/// The rules, with the reason for each.
pub(crate) const RULES: &str = include_str!("../../policy/seccomp.toml");

#[derive(Debug, Deserialize)]
struct Tables {
    floor: Vec<Rule>,
    default: Default,
}

#[derive(Debug, Deserialize)]
struct Default {
    allow: Vec<Rule>,
    refuse: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Rule {
    pub(crate) reason: String,
    calls: Vec<String>,
    #[serde(default)]
    pub(crate) errno: Option<String>,
    #[serde(default)]
    pub(crate) when: Option<When>,
}

/// On which argument it depends.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct When {
    pub(crate) arg: usize,
    #[serde(default)]
    pub(crate) values: Vec<u64>,
    #[serde(default)]
    pub(crate) bits: Vec<u64>,
}

/// Which part of the rules a rule is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Floor,
    Allow,
    Refuse,
}

/// What is known of one call.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) name: String,
    number: u32,
    pub(crate) rules: Vec<(Part, Rule)>,
}

/// Calls about which more is asked than their rules say.
const SOCKETS: [&str; 2] = ["socket", "socketpair"];

/// Looks a call up; None where no kernel that is known here has it.
pub(crate) fn find(name: &str) -> Option<Known> {
    let name = name.trim_end_matches("()");
    let number = number(name)?;
    let rules = tables().map(|tables| of(&tables, name)).unwrap_or_default();
    Some(Known {
        name: name.to_owned(),
        number,
        rules,
    })
}

fn tables() -> Option<Tables> {
    toml::from_str(RULES).ok()
}

fn of(tables: &Tables, name: &str) -> Vec<(Part, Rule)> {
    let parts = [
        (Part::Floor, &tables.floor),
        (Part::Allow, &tables.default.allow),
        (Part::Refuse, &tables.default.refuse),
    ];
    let named = |rule: &&Rule| rule.calls.iter().any(|call| call == name);
    parts
        .into_iter()
        .flat_map(|(part, rules)| rules.iter().filter(named).map(move |rule| (part, rule.clone())))
        .collect()
}

/// The names of all calls that a rule is about.
pub(crate) fn names() -> Vec<String> {
    let Some(tables) = tables() else { return Vec::new() };
    let all = [tables.floor, tables.default.allow, tables.default.refuse];
    let mut names: Vec<String> = all.into_iter().flatten().flat_map(|rule| rule.calls).collect();
    names.sort();
    names.dedup();
    names
}

impl Known {
    /// The group by which a policy opens it.
    pub(crate) fn group(&self) -> Option<SeccompGroup> {
        let calls = |group: SeccompGroup| -> &[&str] {
            match group {
                SeccompGroup::IoUring => &["io_uring_setup", "io_uring_enter", "io_uring_register"],
                SeccompGroup::Userns => &["unshare", "clone"],
                SeccompGroup::Ptrace => &["ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp"],
                SeccompGroup::Keyring => &["keyctl", "add_key", "request_key"],
                SeccompGroup::Perf => &["perf_event_open"],
            }
        };
        SeccompGroup::ALL
            .into_iter()
            .find(|group| calls(*group).contains(&self.name.as_str()))
    }

    /// The call with these arguments.
    pub(crate) const fn with(&self, args: [u64; 6]) -> Call {
        Call {
            number: self.number,
            args,
        }
    }

    /// The calls to ask about: with every argument 0, and with each value that a rule names.
    pub(crate) fn asked(&self) -> Vec<(String, Call)> {
        let call = |args| Call {
            number: self.number,
            args,
        };
        let mut all = vec![("with every argument 0".to_owned(), call([0; 6]))];
        if SOCKETS.contains(&self.name.as_str()) {
            all.clear();
            for (words, args) in [
                ("AF_UNIX", [1, 1, 0, 0, 0, 0]),
                ("AF_INET, TCP", [2, 1, 6, 0, 0, 0]),
                ("AF_INET, SCTP", [2, 1, 132, 0, 0, 0]),
                ("AF_NETLINK, ROUTE", [16, 3, 0, 0, 0, 0]),
                ("AF_ALG", [38, 5, 0, 0, 0, 0]),
                ("AF_VSOCK", [40, 1, 0, 0, 0, 0]),
            ] {
                all.push((format!("({words})"), call(args)));
            }
        }
        for when in self.rules.iter().filter_map(|(_, rule)| rule.when.as_ref()) {
            for value in when.values.iter().chain(&when.bits) {
                let mut args = [0; 6];
                if let Some(arg) = args.get_mut(when.arg) {
                    *arg = *value;
                    all.push((format!("with argument {} {value:#x}", when.arg), call(args)));
                }
            }
        }
        all.dedup_by(|a, b| a.1 == b.1);
        all
    }

    /// What the default profile and the floor answer to each of them.
    pub(crate) fn answers(&self) -> Vec<(String, Answer, Answer)> {
        let (default, floor) = (Program::default_profile(), Program::floor());
        self.asked()
            .into_iter()
            .map(|(words, call)| (words, default.answer(&call), floor.answer(&call)))
            .collect()
    }
}

/// An answer for people.
pub(crate) fn word(answer: Answer) -> String {
    match answer {
        Answer::Allow => "let through".to_owned(),
        Answer::Errno(errno) => nix::errno::Errno::from_raw(errno)
            .to_string()
            .split(':')
            .next()
            .unwrap_or_default()
            .to_owned(),
        Answer::Kill => "ends the process (SIGSYS)".to_owned(),
        Answer::Trap => "SIGSYS".to_owned(),
        Answer::Supervisor => "asks the supervisor".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_rules_is_answered_as_its_rule_says() {
        let mut seen = 0;
        for name in names() {
            // Calls of other families have no number here.
            let Some(known) = find(&name) else { continue };
            for (part, rule) in known.rules.iter().filter(|(_, rule)| rule.when.is_none()) {
                let floored = known
                    .rules
                    .iter()
                    .any(|(part, rule)| *part == Part::Floor && rule.when.is_none());
                let (_, default, floor) = known.answers().swap_remove(0);
                let expected = rule.errno.as_ref();
                match part {
                    Part::Floor => {
                        assert_eq!(Some(&word(floor)), expected, "{name}");
                        assert_eq!(default, floor, "{name}");
                    }
                    Part::Allow if !floored => assert_eq!(default, Answer::Allow, "{name}"),
                    Part::Refuse if !known.rules.iter().any(|(part, _)| *part == Part::Allow) => {
                        assert_eq!(Some(&word(default)), expected, "{name}");
                    }
                    _ => {}
                }
                seen += 1;
            }
        }
        assert!(seen > 300, "{seen}");
    }

    #[test]
    fn groups_are_those_of_the_rules() {
        let value: toml::Value = toml::from_str(RULES).unwrap();
        for group in SeccompGroup::ALL {
            for call in value["groups"][group.as_str()].as_array().unwrap() {
                let name = call.as_str().unwrap();
                assert_eq!(find(name).unwrap().group(), Some(group), "{name}");
            }
        }
        assert_eq!(find("read").unwrap().group(), None);
    }
}
