//! `[[exception]]`: who is let off what, and why.

use serde::{Deserialize, Serialize};

use super::{Cri, Effective, Level, Policy};
use crate::control::ControlId;
use crate::request::{PodType, Request};

/// One exception. It never reaches a container whose sandbox the policy's `cri` does not vouch for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    pub reason: String,
    #[serde(rename = "match")]
    pub matches: Match,
    #[serde(default)]
    pub level: Option<Level>,
    /// Controls that are only observed for these containers.
    #[serde(default)]
    pub loosen: Vec<ControlId>,
}

/// Globs: `*` stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    pub namespace: String,
    #[serde(default = "any")]
    pub name: String,
    #[serde(rename = "type", default)]
    pub typ: Option<PodType>,
}

fn any() -> String {
    "*".to_owned()
}

impl Match {
    fn covers(&self, request: &Request, cri: Cri) -> bool {
        let Some(pod) = request.pod(cri) else { return false };
        glob(&self.namespace, pod.namespace) && glob(&self.name, pod.name) && self.typ.is_none_or(|t| t == pod.typ)
    }

    /// Literal characters: the more, the more specific.
    fn specificity(&self) -> usize {
        let literal = |s: &str| s.chars().filter(|c| *c != '*').count();
        literal(&self.namespace) + literal(&self.name) + usize::from(self.typ.is_some())
    }
}

/// Whether `pattern`, in which `*` stands for any run of characters, covers the whole of `text`.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        // The part before this one floats: its first place will do.
        if let Some(floating) = last.replace(part) {
            let Some(at) = rest.find(floating) else { return false };
            rest = &rest[at + str::len(floating)..];
        }
    }
    match last {
        None => rest.is_empty(),
        Some(tail) => rest.ends_with(tail),
    }
}

impl Policy {
    /// What holds for this request: the policy, its most specific matching exception, and annotations that tighten.
    pub fn effective(&self, request: &Request, digest: &str) -> Effective {
        let best = self
            .exceptions
            .iter()
            .filter(|e| e.matches.covers(request, self.cri))
            .max_by_key(|e| e.matches.specificity());
        let mut level = best.and_then(|e| e.level).unwrap_or(self.level);
        // An annotation is the workload's word: it may ask for more, never for less.
        if let Some(asked) = request.asked_level() {
            level = level.max(asked);
        }
        Effective {
            level,
            policy: self.clone(),
            exceptions: best.iter().map(|e| e.reason.clone()).collect(),
            digest: digest.to_owned(),
            loosened: best.map(|e| e.loosen.clone()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn globs() {
        for (pattern, text, covers) in [
            ("*", "", true),
            ("*", "anything", true),
            ("kube-proxy-*", "kube-proxy-x7", true),
            ("kube-proxy-*", "my-kube-proxy-x7", false),
            ("kube-system", "kube-system", true),
            ("kube-system", "kube-system2", false),
            ("a*b*c", "a--b--c", true),
            ("a*b*c", "a--c--b", false),
            ("a*a", "a", false),
            ("*-node", "csi-node", true),
            ("", "x", false),
        ] {
            assert_eq!(glob(pattern, text), covers, "{pattern} {text}");
        }
    }
}
