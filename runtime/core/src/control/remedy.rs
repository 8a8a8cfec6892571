//! The narrowest loosening that the policy has for one refused thing, in words that this caller can do as they stand.
//!
//! A pod's container has a name that a CRI vouches for: for it there is an exception with one key. Under podman, Docker and by hand nobody
//! vouches for a name, so that no exception matches: there is a second name of the runtime, with a policy of its own. What is printed is tried:
//! a test takes it out of the message and puts it where the message says.

use crate::control::Context;
use crate::id::ControlId;
use crate::policy::Cri;
use crate::request::{Caller, Pod, PodType};

/// Where a machine's policy is.
const POLICY: &str = "/etc/gabion/policy.toml";

/// Says how a list of the policy gets one more entry, for this caller alone where there is a way.
pub(super) fn allow(cx: &Context<'_>, key: &str, entry: &str) -> String {
    set(cx, key, &format!("[{}]", quoted(entry)))
}

/// Says the same of a key with this value, as TOML has it. `key` is one of the narrow ones.
pub(super) fn set(cx: &Context<'_>, key: &str, value: &str) -> String {
    let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
    let in_table = format!("[{table}] {name} = {value}");
    if let Some(pod) = nameable(cx) {
        return format!("allow it to {}", by_exception(cx, &pod, &format!("{key} = {value}")));
    }
    match cx.request.caller() {
        Caller::Cri => {
            // Nobody vouches for the pod: without that no exception is its own.
            let why = match cx.policy.policy.cri {
                Cri::None => "set `cri = \"containerd\"` there",
                Cri::Containerd => "containerd_root and containerd_state there must be containerd's own",
                Cri::CriO => "CRI-O must call gabion as gabion-crio",
            };
            format!("allow it in {POLICY}: {in_table} (on a node, for this pod alone by an exception: {why})")
        }
        Caller::Podman => by_second_name("podman --runtime gabion-NAME", &in_table),
        // A runtime of daemon.json's.
        Caller::Docker => by_second_name("docker run --runtime gabion-NAME", &in_table),
        Caller::Bundle => by_second_name("gabion-NAME", &in_table),
    }
}

/// Says what has to be done before all else where a CRI calls and the policy believes none: every pod has files of the node's, the kubelet's
/// /etc/hosts for one, and none of them can be told from anybody's hostPath.
pub(super) fn cri_first(cx: &Context<'_>) -> Option<String> {
    if cx.request.caller() != Caller::Cri || cx.policy.policy.cri != Cri::None {
        return None;
    }
    let annotations = cx.request.spec.annotations().as_ref();
    let by_cri_o = annotations.is_some_and(|all| all.contains_key("io.kubernetes.cri-o.ContainerType"));
    let word = if by_cri_o { "cri-o" } else { "containerd" };
    Some(format!(
        "set `cri = \"{word}\"` in {POLICY} first: without it no pod's own files can be told from others; then, if this is a volume of its own, "
    ))
}

/// Says how a pod's container is let off a whole control, where nothing smaller is known. Nobody's container is.
pub(super) fn let_off(cx: &Context<'_>, control: ControlId) -> Option<String> {
    let pod = nameable(cx)?;
    let key = format!("loosen = [\"{control}\"]");
    Some(format!("loosen the control for {}", by_exception(cx, &pod, &key)))
}

fn by_second_name(word: &str, in_table: &str) -> String {
    format!(
        "allow it under a second name of the runtime, {word} (docs/POLICY.md): {in_table} in /etc/gabion/runtimes/NAME.toml"
    )
}

/// Gives the pod, where an exception can name it and no other: a `*` in a name would stand for others, too.
fn nameable<'a>(cx: &Context<'a>) -> Option<Pod<'a>> {
    let pod = cx.request.pod(cx.policy.cri)?;
    let words = [
        Some(pod.namespace),
        Some(pod.name),
        cx.request.container_name(cx.policy.cri),
    ];
    words
        .into_iter()
        .flatten()
        .all(|word| !word.contains('*'))
        .then_some(pod)
}

fn by_exception(cx: &Context<'_>, pod: &Pod<'_>, line: &str) -> String {
    let who = match pod.typ {
        PodType::Sandbox => "this pod's sandbox",
        PodType::Container => "this container",
    };
    // One exception applies: a second one would take the place of the first.
    if let Some(reason) = cx.policy.exceptions.first() {
        return format!(
            "{who} alone, by the exception that it has (reason {}): `{line}`",
            quoted(reason)
        );
    }
    format!(
        "{who} alone, by these lines in {POLICY}: `[[exception]]`, `reason = \"…\"`, `match = {{ {} }}`, `{line}`",
        matching(cx, pod)
    )
}

fn matching(cx: &Context<'_>, pod: &Pod<'_>) -> String {
    let mut words = vec![
        format!("namespace = {}", quoted(pod.namespace)),
        format!("name = {}", quoted(&without_suffix(pod.name))),
    ];
    let (container, image) = (
        cx.request.container_name(cx.policy.cri),
        cx.request.image_name(cx.policy.cri),
    );
    if let Some(name) = container {
        words.push(format!("container = {}", quoted(name)));
    } else {
        let typ = if pod.typ == PodType::Sandbox {
            "sandbox"
        } else {
            "container"
        };
        words.push(format!("type = \"{typ}\""));
    }
    if let Some(glob) = image.and_then(any_tag) {
        words.push(format!("image = {}", quoted(&glob)));
    }
    words.join(", ")
}

/// Leaves out what Kubernetes makes up for each pod of a Deployment, a DaemonSet or a Job, which is another one the next time. It makes those words
/// of letters and digits that no name is likely to end in (k8s.io/apimachinery/pkg/util/rand).
fn without_suffix(name: &str) -> String {
    const ALPHABET: &str = "bcdfghjklmnpqrstvwxz2456789";
    let made_up = |word: &str, long: std::ops::RangeInclusive<usize>| {
        long.contains(&word.len()) && word.chars().all(|c| ALPHABET.contains(c))
    };
    let Some((rest, _)) = name.rsplit_once('-').filter(|(_, last)| made_up(last, 5..=5)) else {
        return name.to_owned();
    };
    let of_deployment = rest.rsplit_once('-').filter(|(_, hash)| made_up(hash, 8..=10));
    format!("{}-*", of_deployment.map_or(rest, |(rest, _)| rest))
}

/// Gives a text as TOML has it, on one line.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // A backtick ends what is to be taken out of the message.
            c if c.is_control() || c == '`' => {
                out.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Gives an image's name with whatever tag or digest. A bare digest is no name.
fn any_tag(image: &str) -> Option<String> {
    if image.contains('*') || image.starts_with("sha256:") {
        return None;
    }
    if let Some((name, _)) = image.split_once('@') {
        return Some(format!("{name}@*"));
    }
    let last = image.rfind('/').map_or(0, |at| at + 1);
    match image.get(last..).and_then(|word| word.find(':')) {
        Some(at) => Some(format!("{}:*", image.get(..last + at)?)),
        None => Some(image.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::harden::harden;
    use crate::host::{Backing, Connects, FileKind, Source, SourceFs, SourcePath};
    use crate::reach::Spot;
    use crate::testing::Case;

    #[test]
    fn what_is_another_the_next_time_is_left_out() {
        for (name, kept) in [
            ("web-7d4b9c6f5d-x2v4k", "web-*"),
            ("proxy-x2v4k", "proxy-*"),
            ("db-0", "db-0"),
            ("db", "db"),
            ("web-front", "web-front"),
            ("a-7d4b9c6f5d", "a-7d4b9c6f5d"),
        ] {
            assert_eq!(without_suffix(name), kept);
        }
        for (image, kept) in [
            (
                "registry.example:5000/postgres:18",
                Some("registry.example:5000/postgres:*"),
            ),
            ("registry.example:5000/postgres", Some("registry.example:5000/postgres")),
            ("docker.io/library/nginx@sha256:00", Some("docker.io/library/nginx@*")),
            ("nginx:1.27@sha256:00", Some("nginx:1.27@*")),
            ("sha256:00ff", None),
        ] {
            assert_eq!(any_tag(image).as_deref(), kept, "{image}");
        }
    }

    /// Gives the remedies of what is refused, one a line.
    fn remedies(case: &Case) -> String {
        let denied = harden(&case.request(), &case.policy, &case.host).err();
        let remedies = denied.iter().flat_map(|denial| {
            denial
                .refusals()
                .filter_map(|change| change.remedy.clone())
                .collect::<Vec<_>>()
        });
        remedies.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_node_is_told_what_its_policy_lacks_before_what_its_pods_do() {
        let hosts = json!([{"destination": "/etc/hosts", "type": "bind", "options": ["rbind"],
            "source": "/var/lib/kubelet/pods/8d3a/etc-hosts"}]);
        let file = Source {
            real: "/var/lib/kubelet/pods/8d3a/etc-hosts".into(),
            kind: FileKind::Regular,
            filesystem: SourceFs::Ordinary,
            spot: Spot {
                chain: Vec::new(),
                on: None,
            },
            links: 1,
            along: Vec::new(),
            layers: Vec::new(),
            backing: Backing::default(),
            connects: Connects::default(),
        };
        let case = |key: &str| {
            let mut case = Case::new()
                .with("/annotations", json!({key: "container"}))
                .with("/mounts", hosts.clone());
            case.host.sources = [(0, SourcePath::Open(file.clone()))].into();
            case
        };
        for (key, word) in [
            ("io.kubernetes.cri.container-type", "containerd"),
            ("io.kubernetes.cri-o.ContainerType", "cri-o"),
        ] {
            let said = remedies(&case(key));
            let first = format!("set `cri = \"{word}\"` in /etc/gabion/policy.toml first: ");
            assert!(said.starts_with(&first), "{said}");
            assert!(said.contains("remove the `hostPath` volume"), "{said}");
            let mut named = case(key);
            named.policy.policy.cri = crate::policy::Cri::Containerd;
            assert!(!remedies(&named).contains("first"), "{}", remedies(&named));
        }
        assert!(!remedies(&case("anybody's")).contains("cri ="));
    }

    #[test]
    fn kubectl_debug_is_told_its_profile() {
        let case = |by: &str, cap: &str| {
            Case::new()
                .with("/annotations", json!({by: "container"}))
                .with("/process/capabilities", json!({"bounding": [cap]}))
        };
        let cri = "io.kubernetes.cri.container-type";
        for (cap, word) in [
            ("CAP_SYS_PTRACE", true),
            ("CAP_NET_ADMIN", true),
            ("CAP_SYS_TIME", false),
        ] {
            let said = remedies(&case(cri, cap));
            assert!(said.contains("`securityContext.capabilities.add`"), "{said}");
            assert_eq!(said.contains("--profile=baseline"), word, "{said}");
        }
        assert!(!remedies(&case("anybody's", "CAP_SYS_PTRACE")).contains("kubectl"));
    }
}
