//! The annotations of gabion's own, `dev.gabion.*`: all that there are. One that is not known, or says what is not understood, is refused at
//! every level: whoever wrote `dev.gabion.level: Restricted` would run at another level than they believe.

use std::collections::HashMap;

use crate::request::{Caller, Request};

/// What all of them begin with. A runtime's annotations are its own by their prefix (OCI runtime spec, config.md#annotations).
const PREFIX: &str = "dev.gabion.";

/// For which containers of a pod an annotation may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// All that have it.
    All,
    /// All, or one by its name: `KEY.<container>`.
    AllOrOne,
}

/// One annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub key: &'static str,
    pub containers: For,
    /// The values, where there are only these. What has a grammar of its own is read by the control that it is for.
    pub values: &'static [&'static str],
    pub about: &'static str,
}

/// Every annotation. A test holds docs/POLICY.md and this table together.
pub static KNOWN: [Known; 5] = [
    Known {
        key: "dev.gabion.level",
        containers: For::All,
        values: &["hardened", "restricted"],
        about: "asks for at least this level",
    },
    Known {
        key: "dev.gabion.holes",
        containers: For::AllOrOne,
        values: &[],
        about: "asks for writable places: `PATH[:size=16m][:mode=0755],…`",
    },
    Known {
        key: "dev.gabion.memory",
        containers: For::AllOrOne,
        values: &["restricted"],
        about: "asks for the rules of `memory` that level restricted has, whatever the level is",
    },
    Known {
        key: "dev.gabion.landlock.tcp-bind",
        containers: For::AllOrOne,
        values: &[],
        about: "the only TCP ports that it may bind: `8080,8443`",
    },
    Known {
        key: "dev.gabion.landlock.tcp-connect",
        containers: For::AllOrOne,
        values: &[],
        about: "the only TCP ports that it may connect to",
    },
];

/// Codes of controls for an annotation's value that is not understood. They are refusals also where the control is only observed.
pub(crate) const NOT_UNDERSTOOD: [&str; 2] = ["holes.annotation", "landlock.bad-port"];

/// An annotation that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: &'static str,
    pub why: String,
}

/// Looks at every annotation of gabion's own.
///
/// # Errors
/// The first, by its name, that is not known or says what is not understood.
pub fn check(request: &Request) -> Result<(), Refused> {
    let none = HashMap::new();
    let all = request.spec.annotations().as_ref().unwrap_or(&none);
    let mut own: Vec<(&String, &String)> = all.iter().filter(|(key, _)| is_own(key)).collect();
    own.sort_unstable();
    own.into_iter()
        .try_for_each(|(key, value)| judge(key, value, request.caller()))
}

/// By any case: `Dev.Gabion.level` is meant for gabion, too.
fn is_own(key: &str) -> bool {
    let prefix = key.trim_start().as_bytes().get(..PREFIX.len());
    prefix.is_some_and(|start| start.eq_ignore_ascii_case(PREFIX.as_bytes()))
}

fn judge(key: &str, value: &str, caller: Caller) -> Result<(), Refused> {
    let Some(known) = KNOWN.iter().find(|known| known.names(key)) else {
        let names: Vec<&str> = KNOWN.iter().map(|known| known.key).collect();
        return Err(Refused {
            code: "annotations.unknown",
            why: format!(
                "the annotation {key:?} is none of gabion's; remedy: remove it, or write one of {}",
                names.join(", ")
            ),
        });
    };
    if key != known.key && caller != Caller::Cri {
        return Err(Refused {
            code: "annotations.unknown",
            why: format!(
                "the annotation {key:?} names one container of a pod, and this is no pod's; remedy: write {}",
                known.key
            ),
        });
    }
    if !known.values.is_empty() && !known.values.contains(&value) {
        return Err(Refused {
            code: "annotations.value",
            why: format!(
                "the annotation {key} has the value {value:?}; remedy: write {}, exactly so, or remove it",
                known.values.join(" or ")
            ),
        });
    }
    Ok(())
}

impl Known {
    /// Whether `key` is this annotation's, for all or for one container.
    fn names(&self, key: &str) -> bool {
        let Some(rest) = key.strip_prefix(self.key) else {
            return false;
        };
        match rest.strip_prefix('.') {
            None => rest.is_empty(),
            Some(container) => self.containers == For::AllOrOne && is_label(container),
        }
    }
}

/// The name of a container: a label as in DNS (RFC 1123).
fn is_label(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(good) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::harden::harden;
    use crate::policy::Level;
    use crate::testing::Case;

    fn code(key: &str, value: &str, of_pod: bool) -> Option<&'static str> {
        let mut annotations = json!({key: value, "org.example": "anything"});
        if of_pod {
            annotations["io.kubernetes.cri.container-type"] = "container".into();
        }
        let request = Case::new().with("/annotations", annotations).request();
        check(&request).err().map(|refused| refused.code)
    }

    #[test]
    fn what_is_known_passes() {
        for (key, value) in [
            ("dev.gabion.level", "restricted"),
            ("dev.gabion.level", "hardened"),
            ("dev.gabion.holes", "/a:size=1m"),
            ("dev.gabion.landlock.tcp-bind", "80"),
            ("dev.gabion.landlock.tcp-connect", ""),
            ("dev.gabionx.level", "x"),
            ("org.dev.gabion.level", "x"),
        ] {
            assert_eq!(code(key, value, false), None, "{key}");
        }
        for key in ["dev.gabion.holes.web-1", "dev.gabion.landlock.tcp-bind.a"] {
            assert_eq!(code(key, "80", true), None, "{key}");
            // Nobody would ever read it.
            assert_eq!(code(key, "80", false), Some("annotations.unknown"), "{key}");
        }
    }

    #[test]
    fn what_is_not_is_refused() {
        for key in [
            "dev.gabion.hole",
            "dev.gabion.Holes",
            "dev.gabion.levels",
            "dev.gabion.level.web",
            "dev.gabion.",
            "dev.gabion.landlock",
            "dev.gabion.holes.",
            "dev.gabion.holes.Web",
            "dev.gabion.holes.a.b",
            "dev.gabion.holes ",
            " dev.gabion.holes",
            "Dev.Gabion.holes",
        ] {
            assert_eq!(code(key, "restricted", true), Some("annotations.unknown"), "{key}");
        }
        for value in [
            "Restricted",
            " restricted",
            "restricted\n",
            "permissive",
            "",
            "RESTRICTED",
        ] {
            assert_eq!(
                code("dev.gabion.level", value, true),
                Some("annotations.value"),
                "{value:?}"
            );
        }
    }

    #[test]
    fn what_a_control_does_not_understand_is_refused_where_it_is_only_observed() {
        for (key, value, code) in [
            ("dev.gabion.holes", "no/path", "holes.annotation"),
            ("dev.gabion.landlock.tcp-bind", "http", "landlock.bad-port"),
        ] {
            for level in [Level::Permissive, Level::Hardened, Level::Restricted] {
                let case = Case::new().with("/annotations", json!({key: value})).level(level);
                let denial = harden(&case.request(), &case.policy, &case.host).unwrap_err();
                let codes: Vec<_> = denial.refusals().filter_map(|c| c.code.as_deref()).collect();
                assert!(codes.contains(&code), "{level}: {codes:?}");
                assert!(level != Level::Permissive || codes == [code], "{level}: {codes:?}");
            }
            let case = Case::new()
                .with("/annotations", json!({key: ""}))
                .level(Level::Permissive);
            assert!(harden(&case.request(), &case.policy, &case.host).is_ok(), "{key}");
        }
    }
}
