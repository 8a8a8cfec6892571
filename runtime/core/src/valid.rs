//! What a spec must not contain at any level: fields that contradict each other, would reach the host, or are not supported.
//!
//! These are rules of no control: a policy loosens none of them, and no level only observes them. `harden` asks them of the spec that
//! every control has been over, so that `check`, which asks `harden`, says what `create` would. runc refuses the same
//! (libcontainer/configs/validate) or the kernel would. A field that gabion does not do is an error: it is never left out in silence.

use std::collections::BTreeSet;

use oci_spec::runtime::{LinuxResources, Spec};

use crate::decision::{Change, Verdict};
use crate::host::{Host, NsPath};
use crate::id::ControlId;
use crate::namespace::{self, NsType};
use crate::policy::Level;
use crate::printable::printable;
use crate::request::Odd;

mod hooks;
mod linux;
mod mounts;
mod process;
mod resources;

/// What `check` calls these rules where it has a control's name for others.
pub const NAME: &str = "bundle";

/// Why a spec cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It asks for what gabion does not do, or what would reach the host.
    Unsupported,
    /// It is not what the runtime spec says it is.
    Malformed,
    /// It is not written as the runtime spec writes it, and other runtimes take it or leave it out. Level permissive does the same.
    Odd,
}

impl Kind {
    /// The stable code, for machines.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unsupported => "bundle.unsupported",
            Self::Malformed => "bundle.invalid",
            Self::Odd => "bundle.spelling",
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Unsupported | Self::Malformed => {
                "correct config.json, or what wrote it: no level and no policy lets it pass"
            }
            Self::Odd => {
                "write it as the message has it, or leave it out; at level permissive it is taken as runc takes it"
            }
        }
    }
}

/// One thing in a spec that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub kind: Kind,
    /// Where in config.json.
    pub field: String,
    pub why: String,
    /// The control whose refusal says the same with a remedy, or whose change it waits for.
    pub told_by: Option<ControlId>,
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, field, why, .. } = self;
        match kind {
            Kind::Unsupported => write!(f, "{field} is not supported [{}]: {why}", kind.code()),
            Kind::Malformed => write!(f, "{field} cannot be used [{}]: {why}", kind.code()),
            Kind::Odd => write!(f, "{why} [{}]", kind.code()),
        }
    }
}

impl std::error::Error for Invalid {}

impl Invalid {
    fn unsupported(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, field, why)
    }

    fn malformed(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Kind::Malformed, field, why)
    }

    /// Makes it fit for one line of a terminal: both texts may hold what a stranger wrote.
    fn new(kind: Kind, field: impl Into<String>, why: impl Into<String>) -> Self {
        let shown = |text: String| printable(&text).into_owned();
        Self {
            kind,
            field: shown(field.into()),
            why: shown(why.into()),
            told_by: None,
        }
    }

    fn told_by(mut self, control: ControlId) -> Self {
        self.told_by = Some(control);
        self
    }

    /// As a control's refusals are written down.
    pub fn change(&self) -> Change {
        Change {
            verdict: Verdict::Refused,
            path: self.field.clone(),
            from: None,
            to: None,
            reason: self.why.clone(),
            code: Some(self.kind.code().to_owned()),
            remedy: Some(self.kind.remedy().to_owned()),
        }
    }
}

/// Gives what was not written as the spec writes it, where the level does not take that.
pub fn odd(level: Level, odd: &[Odd]) -> Vec<Invalid> {
    if level == Level::Permissive {
        return Vec::new();
    }
    let told = odd.iter().map(|odd| {
        let why = format!("{}: {}", odd.field, odd.why());
        Invalid::new(Kind::Odd, odd.field.clone(), why)
    });
    told.collect()
}

/// Gives all that cannot be of this spec, in its order.
pub fn judge(spec: &Spec, host: &Host) -> Vec<Invalid> {
    let mut found = Vec::new();
    let namespaces = Namespaces::of(spec, host, &mut found);
    if !namespace::made(spec).any(|made| made == NsType::Mount) {
        // The root is built, attached and left in a mount namespace of the container's own. The control `namespaces` adds it, but
        // may be loosened.
        found.push(Invalid::unsupported(
            "linux.namespaces without a new mount namespace",
            "the host's own mounts would be changed; list {\"type\": \"mount\"} without a path",
        ));
    }
    let names = [("hostname", spec.hostname()), ("domainname", spec.domainname())];
    let names = names.map(|(field, name)| (field, name.as_deref().filter(|name| !name.is_empty())));
    for (field, _) in names.iter().filter(|(_, name)| name.is_some()) {
        if !namespaces.own(NsType::Uts) {
            let why = "it would be the host's: list a uts namespace of the container's own in linux.namespaces";
            found.push(Invalid::unsupported(*field, why));
        }
    }
    // What they lack the control `namespaces` would have added, had it not refused.
    for bad in &mut found {
        bad.told_by = Some(ControlId::Namespaces);
    }
    for (field, name) in names {
        if let Some(why) = name.and_then(not_a_name) {
            found.push(Invalid::malformed(field, why));
        }
    }
    for mount in spec.mounts().iter().flatten() {
        mounts::judge(mount, &namespaces, &mut found);
    }
    if let Some(process) = spec.process() {
        found.extend(process::judge(process, "process."));
    }
    if let Some(hooks) = spec.hooks() {
        hooks::judge(hooks, &mut found);
    }
    if let Some(linux) = spec.linux() {
        linux::judge(linux, &namespaces, &mut found);
    }
    found
}

pub use process::judge as judge_process;

/// Gives what no level takes of limits that come by themselves (`update`).
pub fn judge_resources(resources: &LinuxResources) -> Vec<Invalid> {
    let mut found = Vec::new();
    resources::judge(resources, &mut found);
    found
}

/// Says what is wrong with a host or domain name. The kernel keeps 64 bytes of any kind, and programs write what they get from there into their
/// logs and prompts as it is.
fn not_a_name(name: &str) -> Option<&'static str> {
    if name.len() > 64 {
        return Some("a name of more than 64 bytes, which is what uname(2) has room for");
    }
    let odd = name.chars().any(|c| c.is_control() || c.is_whitespace());
    odd.then_some("a name with spaces or control characters")
}

/// Which kinds are listed, and which of these are really the runtime's own.
#[derive(Debug, Default)]
struct Namespaces {
    listed: BTreeSet<NsType>,
    hosts: BTreeSet<NsType>,
    /// Made, not joined.
    made: BTreeSet<NsType>,
}

impl Namespaces {
    fn of(spec: &Spec, host: &Host, found: &mut Vec<Invalid>) -> Self {
        let mut all = Self::default();
        let list = spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
        for namespace in list.into_iter().flatten() {
            let typ = NsType::from(namespace.typ());
            if !all.listed.insert(typ) {
                let why = format!("{} is listed twice", typ.spec_name());
                found.push(Invalid::unsupported("linux.namespaces", why));
            }
            let path = namespace.path().as_ref().filter(|p| !p.as_os_str().is_empty());
            match path.map(|path| host.ns_paths.get(path)) {
                None => {
                    all.made.insert(typ);
                }
                // By identity: a path may lead anywhere.
                Some(Some(NsPath::Namespace { id, .. }))
                    if host.namespaces.get(&typ).is_some_and(|own| own.contains(id)) =>
                {
                    all.hosts.insert(typ);
                }
                Some(_) => {}
            }
        }
        all
    }

    /// The container has one that is not the runtime's own.
    fn own(&self, typ: NsType) -> bool {
        self.listed.contains(&typ) && !self.hosts.contains(&typ)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::hardened::Denial;
    use crate::request::Request;
    use crate::testing::Case;
    use serde_json::{Value, json};

    /// The fields that cannot be of a spec that is as `runc spec` writes it but for this.
    fn fields(pointer: &str, value: Value) -> Vec<String> {
        let case = Case::new().with(pointer, value);
        let found = judge(&case.request().spec, &case.host);
        found.into_iter().map(|i| i.field).collect()
    }

    #[test]
    fn what_runc_writes_is_good() {
        let case = Case::new();
        assert_eq!(judge(&case.request().spec, &case.host), []);
    }

    #[test]
    fn no_container_without_a_mount_namespace() {
        for list in [
            json!([{"type": "uts"}]),
            json!([{"type": "uts"}, {"type": "mount", "path": "/proc/self/ns/mnt"}]),
        ] {
            let found = fields("/linux/namespaces", list);
            assert_eq!(found, ["linux.namespaces without a new mount namespace"]);
        }
    }

    #[test]
    fn namespaces_are_listed_once_and_names_need_theirs() {
        let twice = json!([{"type": "mount"}, {"type": "uts"}, {"type": "uts"}]);
        assert_eq!(fields("/linux/namespaces", twice), ["linux.namespaces"]);
        assert_eq!(fields("/linux/namespaces", json!([{"type": "mount"}])), ["hostname"]);
    }

    #[test]
    fn names_are_names() {
        for (pointer, field) in [("/hostname", "hostname"), ("/domainname", "domainname")] {
            let most = "x".repeat(64);
            for good in ["web-0", "Web_0.example.org", "(none)", "köln", "", most.as_str()] {
                assert_eq!(fields(pointer, good.into()), Vec::<String>::new(), "{good:?}");
            }
            let more = "x".repeat(65);
            for bad in [
                "a b",
                "a\nroot: ok",
                "a\u{1b}[2J",
                "a\0",
                "\t",
                "a\u{85}",
                more.as_str(),
            ] {
                assert_eq!(fields(pointer, bad.into()), [field], "{bad:?}");
                let sysctl = json!({ format!("kernel.{field}"): bad });
                assert_eq!(
                    fields("/linux/sysctl", sysctl),
                    [format!("linux.sysctl.kernel.{field}")]
                );
            }
        }
    }

    /// Joined by a path, it is the host's all the same.
    #[test]
    fn a_host_name_is_never_the_host_s_own() {
        let list = json!([{"type": "mount"}, {"type": "uts", "path": "/host/uts"}]);
        let mut case = Case::new().with("/linux/namespaces", list);
        let other = NsPath::Namespace {
            typ: NsType::Uts,
            id: crate::namespace::NsId { dev: 4, ino: 99 },
        };
        case.host.ns_paths.insert("/host/uts".into(), other);
        assert_eq!(judge(&case.request().spec, &case.host), [], "a pod's");
        let own = crate::namespace::NsId { dev: 4, ino: 1 };
        case.host.namespaces.insert(NsType::Uts, [own].into());
        let hosts = NsPath::Namespace {
            typ: NsType::Uts,
            id: own,
        };
        case.host.ns_paths.insert("/host/uts".into(), hosts);
        let found: Vec<String> = judge(&case.request().spec, &case.host)
            .into_iter()
            .map(|bad| bad.field)
            .collect();
        assert_eq!(found, ["hostname"]);
    }

    #[test]
    fn the_host_s_own_namespace_is_told_by_identity() {
        let mut case = Case::new().with(
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "uts"}, {"type": "network", "path": "/some/where"}]),
        );
        case = case.with("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
        let id = crate::namespace::NsId { dev: 4, ino: 7 };
        let typ = NsType::Network;
        case.host
            .ns_paths
            .insert("/some/where".into(), NsPath::Namespace { typ, id });
        assert_eq!(judge(&case.request().spec, &case.host), []);
        case.host.namespaces.entry(typ).or_default().insert(id);
        let found = judge(&case.request().spec, &case.host);
        assert_eq!(found[0].field, "linux.sysctl.net.ipv4.ip_forward");
    }

    #[test]
    fn what_only_permissive_takes_is_refused_above_and_named() {
        let text = r#"{"ociVersion":"1.0.2","process":{"args":["sh"],"cwd":"/"},"root":{"path":"r"},
            "linux":{"maskedpaths":["/a"],"namespaces":[{"type":"mount"}]}}"#;
        let request = Request::parse(
            "c".parse().unwrap(),
            "/b".into(),
            text.as_bytes(),
            std::path::Path::new("t"),
        )
        .unwrap();
        assert_eq!(request.odd.len(), 1);
        for level in [Level::Hardened, Level::Restricted] {
            let found = odd(level, &request.odd);
            assert_eq!(
                found[0].to_string(),
                r#"linux.maskedPaths: the key is written "maskedpaths" [bundle.spelling]"#
            );
            let denial = Denial::unless_odd(level, &request.odd).unwrap_err();
            assert!(
                denial
                    .to_string()
                    .starts_with("refused [bundle.spelling]: linux.maskedPaths"),
                "{denial}"
            );
        }
        assert!(odd(Level::Permissive, &request.odd).is_empty());
        assert!(Denial::unless_odd(Level::Permissive, &request.odd).is_ok());
    }

    #[test]
    fn one_line_with_the_code() {
        let bad = Invalid::unsupported("a\nb", "why");
        assert!(!bad.to_string().contains('\n'));
        assert!(bad.to_string().ends_with("is not supported [bundle.unsupported]: why"));
        assert_eq!(
            Invalid::malformed("a", "b").change().code.as_deref(),
            Some("bundle.invalid")
        );
    }
}
