//! Pods, and what makes pods: the containers that the kubelet and a CRI would ask for.

use serde_json::Value;

use gabion_core::namespace::NsType;

use super::at::{At, Wrong};
use super::wish::{Filter, Mounted, Origin, PodNames, Role, Wish, World};
use super::{Found, quantity};

mod security;
mod volumes;

/// What a pod's spec may have, as far as its API has it.
const POD: &[&str] = &[
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "containers",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "ephemeralContainers",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostUsers",
    "hostname",
    "hostnameOverride",
    "imagePullSecrets",
    "initContainers",
    "nodeName",
    "nodeSelector",
    "os",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "resourceClaims",
    "resources",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "schedulingGates",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "subdomain",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
    "workloadRef",
];
const CONTAINER: &[&str] = &[
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "restartPolicy",
    "restartPolicyRules",
    "securityContext",
    "startupProbe",
    "stdin",
    "stdinOnce",
    "targetContainerName",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeDevices",
    "volumeMounts",
    "workingDir",
];

/// Takes one object of a manifest apart.
pub(super) fn object(value: &Value, found: &mut Found) {
    take(&At::top(value), 0, found);
}

fn take(at: &At<'_>, depth: usize, found: &mut Found) {
    let kind = at.get("kind").text().ok().flatten().unwrap_or_default();
    if kind.ends_with("List") && at.get("items").is_there() {
        // A list in a list is nobody's.
        let items = if depth > 1 {
            Err(at.wrong("lists within lists"))
        } else {
            at.get("items").list()
        };
        match items {
            Ok(items) => items.iter().for_each(|item| take(item, depth + 1, found)),
            Err(wrong) => found.failed(&kind, wrong),
        }
        return;
    }
    let names = Names::of(at, &kind);
    let template = match kind.as_str() {
        "Pod" => Some(at.clone()),
        "PodTemplate" => Some(at.get("template")),
        "CronJob" => Some(at.way(&["spec", "jobTemplate", "spec", "template"])),
        // A Deployment, and whatever else has a template for pods where those have it.
        _ => Some(at.way(&["spec", "template"])).filter(|t| t.way(&["spec", "containers"]).is_there()),
    };
    match template {
        Some(template) => match pod(&template, &names) {
            Ok(wishes) => found.wishes.extend(wishes),
            Err(wrong) => found.failed(&names.shown, wrong),
        },
        None if kind.is_empty() => found.failed("an object", at.wrong("it has no `kind`")),
        None => found.other.push(names.shown),
    }
}

/// What an object and its pods are called.
struct Names {
    shown: String,
    namespace: String,
    pod: String,
}

impl Names {
    fn of(at: &At<'_>, kind: &str) -> Self {
        let meta = at.get("metadata");
        let word = |key: &str| meta.get(key).text().ok().flatten().filter(|word| !word.is_empty());
        let namespace = word("namespace").unwrap_or_else(|| "default".to_owned());
        let name = word("name").or_else(|| word("generateName").map(|name| name + "x2v4k"));
        let name = name.unwrap_or_else(|| "unnamed".to_owned());
        // As the controllers name pods: exceptions go by it.
        let pod = match kind {
            "Deployment" | "Rollout" => format!("{name}-7d4b9c6f5d-x2v4k"),
            "StatefulSet" => format!("{name}-0"),
            "CronJob" => format!("{name}-29000000-x2v4k"),
            "Pod" => name.clone(),
            _ => format!("{name}-x2v4k"),
        };
        Self {
            shown: format!("{kind} {namespace}/{name}"),
            namespace,
            pod,
        }
    }
}

/// Gives a wish for the sandbox and one for each container.
fn pod(template: &At<'_>, names: &Names) -> Result<Vec<Wish>, Wrong> {
    let spec = template.get("spec");
    let mut sandbox = Wish::new(World::Kubernetes, format!("{}, the pod's sandbox", names.shown));
    sandbox.role = Role::Sandbox;
    sandbox.pod = PodNames {
        namespace: names.namespace.clone(),
        pod: names.pod.clone(),
        ..PodNames::default()
    };
    sandbox.args = vec!["/pause".to_owned()];
    (sandbox.uid, sandbox.gid, sandbox.read_only_root) = (65_535, 65_535, true);
    spec.unknown(POD, &mut sandbox.assumed)?;
    shared(&spec, &mut sandbox)?;
    for (key, value) in template.way(&["metadata", "annotations"]).map()? {
        if key.starts_with("dev.gabion.") {
            sandbox
                .annotations
                .insert(key.clone(), value.text()?.unwrap_or_default());
            sandbox.note(&key, &value.place);
        }
    }
    runtime_class(&spec, &mut sandbox)?;
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let mut wishes = Vec::new();
    for key in lists {
        for at in spec.get(key).list()? {
            wishes.push(container(&at, template, names, &sandbox)?);
        }
    }
    if wishes.is_empty() {
        return Err(spec.get("containers").wrong("there is no container"));
    }
    security::of_pod(&spec.get("securityContext"), &mut sandbox)?;
    security::sysctls(&spec.way(&["securityContext", "sysctls"]), &mut sandbox)?;
    wishes.insert(0, sandbox);
    Ok(wishes)
}

/// What a pod shares with the host.
fn shared(spec: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    let keys: [(&str, &[NsType]); 3] = [
        ("hostNetwork", &[NsType::Network, NsType::Uts]),
        ("hostPID", &[NsType::Pid]),
        ("hostIPC", &[NsType::Ipc]),
    ];
    for (key, types) in keys {
        let at = spec.get(key);
        if at.is_true()? {
            for typ in types {
                wish.shared.insert(*typ);
                wish.note(&format!("linux.namespaces.{}", typ.spec_name()), &at.place);
            }
        }
    }
    if spec.get("hostUsers").truth()? == Some(false) {
        wish.user_namespace = true;
    }
    Ok(())
}

fn runtime_class(spec: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    match spec.get("runtimeClassName").text()?.as_deref() {
        Some("gabion") => {}
        Some("gabion-restricted") => {
            wish.annotations
                .entry("dev.gabion.level".to_owned())
                .or_insert_with(|| "restricted".to_owned());
        }
        Some(other) => wish.assume(format!(
            "{}: {other}: that this RuntimeClass has a handler of gabion's; else gabion is not asked",
            spec.get("runtimeClassName").place
        )),
        None => wish
            .assume("no runtimeClassName: that gabion is the node's default runtime, or that one of gabion's is set"),
    }
    Ok(())
}

fn container(at: &At<'_>, template: &At<'_>, names: &Names, sandbox: &Wish) -> Result<Wish, Wrong> {
    let spec = template.get("spec");
    let own = at.get("name").text()?.unwrap_or_else(|| at.place.clone());
    let mut wish = Wish::new(World::Kubernetes, format!("{}, container {own}", names.shown));
    wish.pod = PodNames {
        namespace: names.namespace.clone(),
        pod: names.pod.clone(),
        container: own.clone(),
        image: at.get("image").text()?,
    };
    // A pod's own wishes are each container's.
    wish.shared.clone_from(&sandbox.shared);
    wish.user_namespace = sandbox.user_namespace;
    wish.annotations.clone_from(&sandbox.annotations);
    wish.places.clone_from(&sandbox.places);
    wish.assumed.clone_from(&sandbox.assumed);
    at.unknown(CONTAINER, &mut wish.assumed)?;
    wish.args = at.get("command").texts()?;
    wish.note("process.args", &at.get("command").place);
    if wish.args.is_empty() {
        wish.assume("no command: that the image's own program lies in the image, where it may be run");
    }
    if let Some(cwd) = at.get("workingDir").text()? {
        wish.cwd = cwd;
        wish.note("process.cwd", &at.get("workingDir").place);
    }
    let beta = format!("container.apparmor.security.beta.kubernetes.io/{own}");
    let beta = template.way(&["metadata", "annotations"]).get(&beta);
    security::of_pod(&spec.get("securityContext"), &mut wish)?;
    security::of_container(
        &at.get("securityContext"),
        &spec.get("securityContext"),
        &beta,
        &mut wish,
    )?;
    volumes::of_container(at, &spec, &mut wish)?;
    limits(&at.way(&["resources", "limits"]), &mut wish)?;
    Ok(wish)
}

fn limits(at: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    for (name, value) in at.map()? {
        let Some(text) = value.text()? else { continue };
        let amount = || quantity::parse(&text).ok_or_else(|| value.wrong(format!("{text:?} is no quantity")));
        match name.as_str() {
            "memory" => {
                wish.limits.memory = Some(amount()?.whole());
                wish.note("linux.resources.memory", &value.place);
            }
            "cpu" => {
                wish.limits.quota = Some(amount()?.thousandths().saturating_mul(100).max(1_000));
                wish.note("linux.resources.cpu", &value.place);
            }
            _ if name.contains('/') => wish.assume(format!(
                "{}: nothing is known of what a device plugin would add",
                value.place
            )),
            _ => {}
        }
    }
    Ok(())
}

/// What a container of a pod mounts without being told to.
fn token(spec: &At<'_>, wish: &mut Wish) -> Result<(), Wrong> {
    const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let there = wish.mounts.iter().any(|mount| mount.target == TOKEN);
    if spec.get("automountServiceAccountToken").truth()? != Some(false) && !there {
        wish.mounts.push(Mounted {
            from: Origin::OfPod("kubernetes.io~projected", "kube-api-access".to_owned()),
            target: TOKEN.to_owned(),
            options: vec!["ro".to_owned()],
        });
    }
    Ok(())
}

/// How a profile of seccomp comes.
const fn filter(of_engine: bool) -> Filter {
    if of_engine { Filter::OfEngine } else { Filter::None }
}
