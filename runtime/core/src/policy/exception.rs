//! `[[exception]]`: who is let off what, and why.

use serde::{Deserialize, Serialize};

use super::{Cri, Date, Effective, Level, Policy};
use crate::id::ControlId;
use crate::request::{Pod, PodType, Request};

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
    /// The last day on which a container may be created under it.
    #[serde(default)]
    pub expires: Option<Date>,
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

/// Questions of a policy to a request.
impl Request {
    /// The pod, if the policy says that the CRI which names it can be trusted.
    pub fn pod(&self, cri: Cri) -> Option<Pod<'_>> {
        let (prefix, typ) = match cri {
            Cri::None => return None,
            Cri::Containerd => ("io.kubernetes.cri.sandbox-", "io.kubernetes.cri.container-type"),
            // The labels that CRI-O writes after the pod's own annotations.
            Cri::CriO => ("io.kubernetes.pod.", "io.kubernetes.cri-o.ContainerType"),
        };
        let get = |name: &str| self.annotation(&format!("{prefix}{name}"));
        let typ = match self.annotation(typ)? {
            "sandbox" => PodType::Sandbox,
            "container" => PodType::Container,
            _ => return None,
        };
        let sandbox_id = match cri {
            Cri::CriO => self.annotation("io.kubernetes.cri-o.SandboxID"),
            _ => get("id"),
        };
        Some(Pod {
            namespace: get("namespace")?,
            name: get("name")?,
            uid: get("uid")?,
            sandbox_id: sandbox_id?,
            typ,
        })
    }

    /// The level that the workload's own annotation asks for.
    pub fn asked_level(&self) -> Option<Level> {
        match self.annotation("dev.gabion.level")? {
            "restricted" => Some(Level::Restricted),
            "hardened" => Some(Level::Hardened),
            _ => None,
        }
    }
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
        // Backwards: of two that are as specific the first one in the file counts (`max_by_key` takes the last).
        let best = self
            .exceptions
            .iter()
            .rev()
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
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::parse;
    use crate::testing::Case;

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

    const POLICY: &str = r#"
        cri = "containerd"
        [[exception]]
        reason = "all of kube-system"
        match = { namespace = "kube-system" }
        loosen = ["user"]
        [[exception]]
        reason = "the proxy"
        match = { namespace = "kube-system", name = "kube-proxy-*", type = "container" }
        level = "permissive"
        [[exception]]
        reason = "the proxy, said again"
        match = { namespace = "kube-system", name = "kube-proxy-*", type = "container" }
        level = "restricted"
    "#;

    fn pod(prefix: &str, typ: &str, namespace: &str, name: &str, kind: &str) -> Case {
        Case::new().with(
            "/annotations",
            json!({typ: kind, format!("{prefix}id"): "s1", "io.kubernetes.cri-o.SandboxID": "s1",
                   format!("{prefix}namespace"): namespace, format!("{prefix}name"): name, format!("{prefix}uid"): "u"}),
        )
    }

    fn containerd(namespace: &str, name: &str, kind: &str) -> Case {
        pod(
            "io.kubernetes.cri.sandbox-",
            "io.kubernetes.cri.container-type",
            namespace,
            name,
            kind,
        )
    }

    fn reasons(policy: &str, case: &Case) -> Vec<String> {
        parse(policy).unwrap().effective(&case.request(), "d").exceptions
    }

    #[test]
    fn the_most_specific_one_applies_and_of_equals_the_first() {
        let policy = parse(POLICY).unwrap();
        let of = |case: &Case| policy.effective(&case.request(), "d");
        let proxy = of(&containerd("kube-system", "kube-proxy-x", "container"));
        assert_eq!(
            (proxy.exceptions.as_slice(), proxy.level),
            (["the proxy".to_owned()].as_slice(), Level::Permissive)
        );
        let sandbox = of(&containerd("kube-system", "kube-proxy-x", "sandbox"));
        assert_eq!(
            (sandbox.exceptions[0].as_str(), sandbox.level),
            ("all of kube-system", Level::Hardened)
        );
        assert_eq!(sandbox.loosened, [ControlId::User]);
        assert!(
            of(&containerd("default", "kube-proxy-x", "container"))
                .exceptions
                .is_empty()
        );
        // An annotation may raise what an exception lowered.
        let raised = containerd("kube-system", "kube-proxy-x", "container")
            .with("/annotations/dev.gabion.level", json!("hardened"));
        assert_eq!(of(&raised).level, Level::Hardened);
    }

    #[test]
    fn whose_word_counts() {
        let ours = containerd("kube-system", "kube-proxy-x", "container");
        assert_eq!(reasons(POLICY, &ours).len(), 1);
        assert_eq!(
            reasons(&POLICY.replace("\"containerd\"", "\"none\""), &ours),
            Vec::<String>::new()
        );
        // CRI-O copies a pod's annotations in: containerd's names are the pod's own there.
        assert_eq!(
            reasons(&POLICY.replace("\"containerd\"", "\"cri-o\""), &ours),
            Vec::<String>::new()
        );
        let crio = pod(
            "io.kubernetes.pod.",
            "io.kubernetes.cri-o.ContainerType",
            "kube-system",
            "kube-proxy-x",
            "container",
        );
        assert_eq!(
            reasons(&POLICY.replace("\"containerd\"", "\"cri-o\""), &crio),
            ["the proxy"]
        );
        assert_eq!(reasons(POLICY, &crio), Vec::<String>::new());
        assert_eq!(
            reasons(POLICY, &containerd("kube-system", "kube-proxy-x", "neither")),
            Vec::<String>::new()
        );
    }
}
