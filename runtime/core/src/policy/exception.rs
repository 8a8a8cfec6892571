//! `[[exception]]`: who is let off what, and why.

use std::borrow::Cow;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::memory::NarrowMemory;
use super::narrow::{Allow, NarrowMounts, NarrowSeccomp, NarrowSysctl, absent};
use super::{Cri, Date, Effective, Level, Policy};
use crate::decision::Mode;
use crate::host::{CriFiles, Host, MadeByCri};
use crate::id::ControlId;
use crate::request::{CRI_NAMESPACE, Channel, Pod, PodType, Request};

/// Where containerd's CRI plugin writes the sandbox's id.
const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";

/// The CRI whose annotations name the pod of one request truthfully: the policy trusts it, the call came through its door, and the host has
/// what it makes. Nothing but [`Policy::vouched`] gives one that is not nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vouched(Cri);

/// One exception. It never reaches a container that no CRI vouches for ([`Policy::vouched`]).
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
    #[serde(default, skip_serializing_if = "absent")]
    pub mounts: NarrowMounts,
    #[serde(default, skip_serializing_if = "absent")]
    pub devices: Allow<PathBuf>,
    #[serde(default, skip_serializing_if = "absent")]
    pub sysctl: NarrowSysctl,
    #[serde(default, skip_serializing_if = "absent")]
    pub hooks: Allow<PathBuf>,
    #[serde(default, skip_serializing_if = "absent")]
    pub cdi: Allow<String>,
    #[serde(default, skip_serializing_if = "absent")]
    pub capabilities: Allow<String>,
    #[serde(default, skip_serializing_if = "absent")]
    pub memory: NarrowMemory,
    #[serde(default, skip_serializing_if = "absent")]
    pub seccomp: NarrowSeccomp,
    #[serde(default, skip_serializing_if = "absent")]
    pub images: Allow<String>,
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
    /// The container's name in its pod. With it, or with `image`, a sandbox is never meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The image's name as containerd has it: `docker.io/library/nginx:1.27`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

fn any() -> String {
    "*".to_owned()
}

/// Questions of a policy to a request.
impl Request {
    /// Gives the pod that the annotations name, where a CRI's word counts for this request.
    pub fn pod(&self, cri: Vouched) -> Option<Pod<'_>> {
        self.named_by(cri.0)
    }

    /// Gives the pod that the annotations name in the form of `cri`, whoever wrote them.
    fn named_by(&self, cri: Cri) -> Option<Pod<'_>> {
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
            _ => self.annotation(SANDBOX_ID),
        };
        Some(Pod {
            namespace: get("namespace")?,
            name: get("name")?,
            uid: get("uid")?,
            sandbox_id: sandbox_id?,
            typ,
        })
    }

    /// Gives the name that the container has in its pod, where the CRI's word counts for it.
    pub fn container_name(&self, cri: Vouched) -> Option<&str> {
        self.of_container("io.kubernetes.cri.container-name", cri)
    }

    /// Gives the name of the container's image, where the CRI's word counts for it.
    pub fn image_name(&self, cri: Vouched) -> Option<&str> {
        self.of_container("io.kubernetes.cri.image-name", cri)
    }

    /// Reads what containerd's CRI plugin writes of each container, after the pod's own annotations. Of a sandbox it writes neither, so that there
    /// it would be the pod's own word; CRI-O writes them before.
    fn of_container(&self, key: &str, cri: Vouched) -> Option<&str> {
        let of_container = self.pod(cri)?.typ == PodType::Container;
        let vouched = of_container && cri.0 == Cri::Containerd;
        self.annotation(key).filter(|_| vouched)
    }

    /// Gives the sandbox that containerd's annotations name, for the look at the host's files.
    pub fn claimed_sandbox(&self) -> Option<&str> {
        self.annotation(SANDBOX_ID)
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
    fn covers(&self, request: &Request, cri: Vouched) -> bool {
        let Some(pod) = request.pod(cri) else { return false };
        let named = |glob_of: &Option<String>, name: Option<&str>| {
            glob_of.as_ref().is_none_or(|g| name.is_some_and(|n| glob(g, n)))
        };
        glob(&self.namespace, pod.namespace)
            && glob(&self.name, pod.name)
            && self.typ.is_none_or(|t| t == pod.typ)
            && named(&self.container, request.container_name(cri))
            && named(&self.image, request.image_name(cri))
    }

    /// Literal characters: the more, the more specific.
    fn specificity(&self) -> usize {
        let literal = |s: &str| s.chars().filter(|c| *c != '*').count();
        let more = [&self.container, &self.image].into_iter().flatten();
        let more: usize = more.map(|glob| 1 + literal(glob)).sum();
        literal(&self.namespace) + literal(&self.name) + usize::from(self.typ.is_some()) + more
    }
}

/// Whether `pattern`, in which `*` stands for any run of characters, covers the whole of `text`.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
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
    /// Tells whose word names this request's pod. Annotations alone are anybody's: podman's, `ctr`'s and a bundle's caller writes any.
    pub fn vouched(&self, request: &Request, host: &Host) -> Vouched {
        let by_root = host.euid == 0;
        let made = self.cri != Cri::Containerd || made_by_plugin(request, host.cri);
        let vouched = self.expects(&request.channel) && by_root && made;
        Vouched(if vouched { self.cri } else { Cri::None })
    }

    /// Gives the policy with the narrow keys as they are where this exception governs, or none.
    pub(super) fn under(&self, exception: Option<&Exception>) -> Cow<'_, Self> {
        let Some(exception) = exception.filter(|e| e.has_narrow_keys()) else {
            return Cow::Borrowed(self);
        };
        let mut policy = self.clone();
        exception.over(&mut policy);
        Cow::Owned(policy)
    }

    /// Gives the level where this exception governs, or none, and the workload asks for `asked`.
    pub(super) fn level_under(&self, exception: Option<&Exception>, asked: Option<Level>) -> Level {
        let level = exception.and_then(|e| e.level).unwrap_or(self.level);
        // An annotation is the workload's word: it may ask for more, never for less.
        asked.map_or(level, |asked| level.max(asked))
    }

    /// Gives a control's mode where this exception governs, at the level that then holds.
    pub(super) fn mode_under(&self, exception: Option<&Exception>, level: Level, control: ControlId) -> Mode {
        let loosened = exception.map(|e| e.loosen.as_slice()).unwrap_or_default();
        self.mode_at(level, loosened, control)
    }

    /// Tells whether a call comes through the door of the CRI that this policy trusts: then it is a pod's, if not a known one's.
    pub fn expects(&self, channel: &Channel) -> bool {
        match (self.cri, channel) {
            (Cri::Containerd, Channel::Shim { namespace }) => namespace == CRI_NAMESPACE,
            (Cri::CriO, Channel::CriO) => true,
            _ => false,
        }
    }

    /// What holds for this request: the policy, its most specific matching exception, and annotations that tighten.
    pub fn effective(&self, request: &Request, host: &Host, digest: &str) -> Effective {
        let vouched = self.vouched(request, host);
        // Backwards: of two that are as specific the first one in the file counts (`max_by_key` takes the last).
        let best = self
            .exceptions
            .iter()
            .rev()
            .filter(|e| e.matches.covers(request, vouched))
            .max_by_key(|e| e.matches.specificity());
        let level = self.level_under(best, request.asked_level());
        Effective {
            level,
            policy: self.under(best).into_owned(),
            exceptions: best.iter().map(|e| e.reason.clone()).collect(),
            digest: digest.to_owned(),
            cri: vouched,
            loosened: best.map(|e| e.loosen.clone()).unwrap_or_default(),
        }
    }
}

/// Whether containerd's CRI plugin made the ids of this request itself: they name the sandbox whose annotations these are.
fn made_by_plugin(request: &Request, files: CriFiles) -> bool {
    let Some(pod) = request.named_by(Cri::Containerd) else {
        return false;
    };
    let own = match pod.typ {
        // A sandbox's own container has its id.
        PodType::Sandbox => pod.sandbox_id == request.id.as_str(),
        PodType::Container => files.container == MadeByCri::Yes,
    };
    // No other annotation has a word in it: `io.container.manager`, by which podman is known, could be the pod's own, and a pod that is taken for
    // none may bind what podman's callers may.
    own && files.bundle == MadeByCri::Yes && files.sandbox == MadeByCri::Yes
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
            json!({typ: kind, format!("{prefix}id"): "web1", "io.kubernetes.cri-o.SandboxID": "s1",
                   format!("{prefix}namespace"): namespace, format!("{prefix}name"): name, format!("{prefix}uid"): "u"}),
        )
    }

    fn containerd(namespace: &str, name: &str, kind: &str) -> Case {
        let (prefix, typ) = ("io.kubernetes.cri.sandbox-", "io.kubernetes.cri.container-type");
        let pod = pod(prefix, typ, namespace, name, kind);
        pod.called_by(Cri::Containerd)
    }

    fn reasons(policy: &str, case: &Case) -> Vec<String> {
        let policy = parse(policy).unwrap();
        policy.effective(&case.request(), &case.host, "d").exceptions
    }

    #[test]
    fn the_most_specific_one_applies_and_of_equals_the_first() {
        let policy = parse(POLICY).unwrap();
        let of = |case: &Case| policy.effective(&case.request(), &case.host, "d");
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
        )
        .called_by(Cri::CriO);
        assert_eq!(
            reasons(&POLICY.replace("\"containerd\"", "\"cri-o\""), &crio),
            ["the proxy"]
        );
        assert_eq!(reasons(POLICY, &crio), Vec::<String>::new());
        // Nor do its labels count where it was not by its name that gabion was called.
        let mut by_podman = crio;
        by_podman.channel = Channel::Direct;
        let policy = POLICY.replace("\"containerd\"", "\"cri-o\"");
        assert_eq!(reasons(&policy, &by_podman), Vec::<String>::new());
        assert_eq!(
            reasons(POLICY, &containerd("kube-system", "kube-proxy-x", "neither")),
            Vec::<String>::new()
        );
    }
    /// Every way in which one of the signs is missing.
    fn unvouched() -> Vec<(&'static str, Case)> {
        let ours = |kind| containerd("kube-system", "kube-proxy-x", kind);
        let with = |change: &dyn Fn(&mut Case)| {
            let mut case = ours("container");
            change(&mut case);
            case
        };
        let shim = |namespace: &str| Channel::Shim {
            namespace: namespace.to_owned(),
        };
        vec![
            ("podman, ctr, a bundle", with(&|c| c.channel = Channel::Direct)),
            ("CRI-O's name", with(&|c| c.channel = Channel::CriO)),
            ("another namespace of containerd's", with(&|c| c.channel = shim("moby"))),
            ("no namespace", with(&|c| c.channel = shim(""))),
            ("another bundle", with(&|c| c.host.cri.bundle = MadeByCri::No)),
            ("a sandbox that is none", with(&|c| c.host.cri.sandbox = MadeByCri::No)),
            (
                "a container that is none",
                with(&|c| c.host.cri.container = MadeByCri::No),
            ),
            ("a user", with(&|c| c.host.euid = 1000)),
            (
                "another pod's sandbox",
                ours("sandbox").with("/annotations/io.kubernetes.cri.sandbox-id", json!("other")),
            ),
        ]
    }

    #[test]
    fn annotations_alone_are_nobody_s_word() {
        let policy = POLICY.replace(
            "name = \"kube-proxy-*\", type = \"container\"",
            "name = \"kube-proxy-*\"",
        );
        for kind in ["container", "sandbox"] {
            let vouched = containerd("kube-system", "kube-proxy-x", kind);
            assert_eq!(reasons(&policy, &vouched), ["the proxy"], "{kind}");
        }
        let marked = containerd("kube-system", "kube-proxy-x", "container");
        let marked = marked.with("/annotations/io.container.manager", json!("libpod"));
        assert_eq!(
            reasons(&policy, &marked),
            ["the proxy"],
            "a pod cannot take itself for none"
        );
        for (who, case) in unvouched() {
            assert_eq!(reasons(&policy, &case), Vec::<String>::new(), "{who}");
            let policy = parse(&policy).unwrap();
            let effective = policy.effective(&case.request(), &case.host, "d");
            assert_eq!(
                (effective.level, case.request().pod(effective.cri)),
                (Level::Hardened, None),
                "{who}"
            );
        }
    }

    const NARROW: &str = r#"
        cri = "containerd"
        [[exception]]
        reason = "the pod"
        match = { namespace = "ci", name = "build-*" }
        [[exception]]
        reason = "its builder"
        match = { namespace = "ci", name = "build-*", container = "builder" }
        capabilities.allow = ["CAP_SYS_CHROOT"]
        [[exception]]
        reason = "this image"
        match = { namespace = "*", image = "registry.example/db:*" }
        seccomp.allow = ["io_uring"]
    "#;

    fn named(kind: &str, name: &str, container: &str, image: &str) -> Case {
        containerd("ci", name, kind)
            .with("/annotations/io.kubernetes.cri.container-name", json!(container))
            .with("/annotations/io.kubernetes.cri.image-name", json!(image))
    }

    #[test]
    fn a_container_and_an_image_are_named_where_containerd_vouches_for_them() {
        let db = "registry.example/db:17";
        for (case, want) in [
            (named("container", "build-1", "builder", "x"), "its builder"),
            (named("container", "build-1", "sidecar", "x"), "the pod"),
            (named("container", "web", "web", db), "this image"),
            // The most literal characters: the image's.
            (named("container", "build-1", "builder", db), "this image"),
            (
                named("container", "web", "web", "evil.example/registry.example/db:17"),
                "",
            ),
            // Of a sandbox the plugin writes neither.
            (named("sandbox", "build-1", "builder", db), "the pod"),
            (named("sandbox", "web", "web", db), ""),
        ] {
            let found = reasons(NARROW, &case);
            assert_eq!(found, Vec::from_iter((!want.is_empty()).then_some(want)), "{want}");
        }
        let policy = parse(NARROW).unwrap();
        let of = |case: &Case| policy.effective(&case.request(), &case.host, "d").policy;
        let builder = of(&named("container", "build-1", "builder", "x"));
        assert_eq!(builder.capabilities.allow, ["CAP_SYS_CHROOT"]);
        assert_eq!(builder.seccomp.allow, []);
        let sidecar = of(&named("container", "build-1", "sidecar", "x"));
        assert_eq!(sidecar.capabilities.allow, Vec::<String>::new());
        // podman writes what it likes, and is nobody.
        let mut direct = named("container", "build-1", "builder", db);
        direct.channel = Channel::Direct;
        assert_eq!(of(&direct).capabilities.allow, Vec::<String>::new());
        assert_eq!(of(&direct).seccomp.allow, []);
    }

    #[test]
    fn the_program_s_name_is_cri_o_s_door() {
        for (name, channel) in [
            ("gabion-crio", Channel::CriO),
            ("/usr/local/bin/gabion-crio", Channel::CriO),
            ("/usr/local/bin/gabion", Channel::Direct),
            ("gabion-crio2", Channel::Direct),
            ("/gabion-crio/gabion", Channel::Direct),
            ("", Channel::Direct),
        ] {
            assert_eq!(Channel::of_name(name.as_ref()), channel, "{name:?}");
        }
    }

    #[test]
    fn a_second_name_is_what_stands_behind_the_hyphen() {
        use crate::request::CalledAs;
        use std::os::unix::ffi::OsStrExt;
        for (name, called) in [
            ("/usr/local/bin/gabion-ci", CalledAs::Runtime("ci")),
            ("gabion-build_2-x", CalledAs::Runtime("build_2-x")),
            ("gabion", CalledAs::Plain),
            ("gabionctl", CalledAs::Plain),
            ("", CalledAs::Plain),
            ("/gabion-ci/gabion", CalledAs::Plain),
            ("gabion-crio", CalledAs::Plain),
            ("gabion-", CalledAs::Unusable),
            ("gabion-Ci", CalledAs::Unusable),
            ("gabion-..", CalledAs::Unusable),
            ("gabion-a.toml", CalledAs::Unusable),
        ] {
            assert_eq!(CalledAs::of_name(name.as_ref()), called, "{name:?}");
        }
        let bytes = std::ffi::OsStr::from_bytes(b"gabion-\xff");
        assert_eq!(CalledAs::of_name(bytes), CalledAs::Unusable);
    }
}
