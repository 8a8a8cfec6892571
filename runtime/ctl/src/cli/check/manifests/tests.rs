#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use gabion_core::host::CgroupDriver;

use super::*;
use crate::manifest::{Read, read};

fn found(text: &str) -> Found {
    match read(
        text.as_bytes(),
        Path::new("file"),
        Path::new("/srv/project"),
        World::Docker,
    ) {
        Ok(Read::Found(found)) => found,
        other => panic!("{other:?}: {text}"),
    }
}

fn settings() -> Settings {
    Settings {
        root: "/run/elsewhere".into(),
        cgroup_driver: CgroupDriver::Cgroupfs,
        log: gabion_common::cli::log::Target::default(),
    }
}

/// The codes that refuse each container, by its name; an error where one cannot be looked at.
fn judged(text: &str, level: Level) -> std::result::Result<BTreeMap<String, Vec<String>>, String> {
    let found = found(text);
    if let Some((name, wrong)) = found.failed.first() {
        return Err(format!("{name}: {wrong}"));
    }
    let mut policy = Loaded::built_in();
    policy.policy.level = level;
    let (policy, _) = trusting(&policy, &found.wishes);
    let of = |wish: &Wish| {
        let outcome = outcome(wish, &policy, &settings()).map_err(|error| error.to_string())?;
        let changes = outcome.report.decisions.iter().filter(|row| row.mode == Mode::Enforce);
        let changes = changes.flat_map(|row| &row.changes);
        let mut codes: Vec<String> = changes.filter_map(|change| change.code.clone()).collect();
        codes.dedup();
        assert_eq!(outcome.report.allowed, codes.is_empty());
        Ok((wish.name.clone(), codes))
    };
    found.wishes.iter().map(of).collect()
}

/// A pod whose spec, container and volumes have these lines beside what every one has.
fn pod(spec: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, annotations: {{other: x}}}}\nspec:\n  securityContext: {{runAsUser: 1000, runAsGroup: 1000}}\n{}  \
         containers:\n  - name: c\n    image: docker.io/library/nginx:1\n    command: [/usr/bin/nginx]\n{}",
        lines(spec, 2),
        lines(container, 4)
    )
}

fn lines(text: &str, indent: usize) -> String {
    text.lines()
        .map(|line| format!("{}{line}\n", " ".repeat(indent)))
        .collect()
}

const SANDBOX: &str = "Pod default/p, the pod's sandbox";
const CONTAINER: &str = "Pod default/p, container c";

/// What it is, lines of the spec, lines of the container, and the codes.
const ROWS: &[(&str, &str, &str, &str)] = &[
    ("nothing", "", "", ""),
    (
        "hostNetwork",
        "hostNetwork: true",
        "",
        "namespaces.host-uts namespaces.host-network",
    ),
    (
        "hostNetwork by YAML 1.1",
        "hostNetwork: yes",
        "",
        "namespaces.host-uts namespaces.host-network",
    ),
    ("hostPID", "hostPID: y", "", "namespaces.host-pid"),
    ("hostIPC", "hostIPC: true", "", "namespaces.host-ipc"),
    (
        "privileged",
        "",
        "securityContext: {privileged: On}",
        "devices.allow-all",
    ),
    (
        "a capability",
        "",
        "securityContext: {capabilities: {add: [NET_ADMIN]}}",
        "capabilities.not-allowed",
    ),
    (
        "its long name",
        "",
        "securityContext: {capabilities: {add: [CAP_SYS_ADMIN]}}",
        "capabilities.not-allowed",
    ),
    (
        "all of them",
        "",
        "securityContext: {capabilities: {add: [ALL]}}",
        "capabilities.not-allowed",
    ),
    (
        "fewer of them",
        "",
        "securityContext: {capabilities: {drop: [ALL], add: [CHOWN]}}",
        "",
    ),
    (
        "no capability",
        "",
        "securityContext: {capabilities: {add: [NET_ADMNI]}}",
        "bundle.spelling",
    ),
    (
        "hostPath",
        "volumes: [{name: v, hostPath: {path: /data}}]",
        "volumeMounts: [{name: v, mountPath: /v}]",
        "mounts.host-path",
    ),
    (
        "of /etc",
        "volumes: [{name: v, hostPath: {path: /etc}}]",
        "volumeMounts: [{name: v, mountPath: /v, readOnly: true}]",
        "mounts.host-path",
    ),
    (
        "a part of it",
        "volumes: [{name: v, hostPath: {path: /data}}]",
        "volumeMounts: [{name: v, mountPath: /v, subPath: x}]",
        "mounts.host-path",
    ),
    (
        "that nobody mounts",
        "volumes: [{name: v, hostPath: {path: /data}}]",
        "",
        "",
    ),
    (
        "emptyDir",
        "volumes: [{name: v, emptyDir: {}}]",
        "volumeMounts: [{name: v, mountPath: /v}]",
        "",
    ),
    (
        "emptyDir alone",
        "volumes: [{name: v, emptyDir: }]",
        "volumeMounts: [{name: v, mountPath: /v, subPath: x}]",
        "",
    ),
    (
        "a claim",
        "volumes: [{name: v, persistentVolumeClaim: {claimName: d}}]",
        "volumeMounts: [{name: v, mountPath: /v}]",
        "",
    ),
    (
        "Bidirectional",
        "volumes: [{name: v, emptyDir: {}}]",
        "volumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]",
        "mounts.propagation",
    ),
    (
        "a program in a volume",
        "volumes: [{name: v, emptyDir: {}}]",
        "volumeMounts: [{name: v, mountPath: /usr/bin}]",
        "mounts.entrypoint-noexec",
    ),
    (
        "a volume over /proc",
        "volumes: [{name: v, emptyDir: {}}]",
        "volumeMounts: [{name: v, mountPath: /proc/x}]",
        "mounts.over-kernel",
    ),
    ("Unmasked", "", "securityContext: {procMount: Unmasked}", ""),
    (
        "SELinux",
        "",
        "securityContext: {seLinuxOptions: {type: spc_t}}",
        "lsm.selinux-absent",
    ),
    ("a hole", "", "", ""),
];

/// Asks for one thing, and is refused for it and nothing else; what is the sandbox's as well is refused there, too.
#[test]
fn a_pod_is_judged_by_each_of_its_words() {
    for (what, spec, container, codes) in ROWS {
        let judged = judged(&pod(spec, container), Level::Hardened).unwrap();
        if *what == "SELinux" && gabion_see::survey::lsm::selinux_is_here() {
            continue;
        }
        assert_eq!(judged[CONTAINER].join(" "), *codes, "{what}");
        let shared = if spec.starts_with("host") { *codes } else { "" };
        assert_eq!(judged[SANDBOX].join(" "), shared, "{what}");
    }
}

#[test]
fn levels_and_users_of_a_pod() {
    let codes = |text: &str, level| judged(text, level).unwrap()[CONTAINER].join(" ");
    assert_eq!(codes(&pod("", ""), Level::Restricted), "");
    let root = pod("", "securityContext: {runAsUser: 0}");
    assert_eq!(codes(&root, Level::Hardened), "");
    assert_eq!(codes(&root, Level::Restricted), "user.root");
    // The image's user is unknown, and may be root.
    let unknown = root
        .replace("{runAsUser: 1000, runAsGroup: 1000}", "{}")
        .replace("{runAsUser: 0}", "{}");
    assert_eq!(codes(&unknown, Level::Restricted), "user.root");
    let non_root = unknown.replace(
        "securityContext: {}\n",
        "securityContext: {runAsNonRoot: true, runAsGroup: 7}\n",
    );
    assert_eq!(codes(&non_root, Level::Restricted), "");
    let users = format!("{}  hostUsers: false\n", pod("", "securityContext: {runAsUser: 0}"));
    assert_eq!(codes(&users, Level::Restricted), "");
    // At permissive nothing stops it.
    assert_eq!(
        codes(
            &pod("hostNetwork: true", "securityContext: {privileged: true}"),
            Level::Permissive
        ),
        ""
    );
    let asked = pod("runtimeClassName: gabion-restricted", "securityContext: {runAsUser: 0}");
    assert_eq!(codes(&asked, Level::Hardened), "user.root");
}

#[test]
fn each_kind_that_makes_pods_is_looked_into() {
    let template = "{metadata: {}, spec: {hostPID: true, containers: [{name: c, image: x, command: [/a]}]}}";
    for (kind, spec) in [
        ("Deployment", format!("{{template: {template}}}")),
        ("StatefulSet", format!("{{template: {template}}}")),
        ("DaemonSet", format!("{{template: {template}}}")),
        ("ReplicaSet", format!("{{template: {template}}}")),
        ("Job", format!("{{template: {template}}}")),
        ("Rollout", format!("{{template: {template}}}")),
        (
            "CronJob",
            format!("{{jobTemplate: {{spec: {{template: {template}}}}}}}"),
        ),
    ] {
        let one = format!("{{kind: {kind}, metadata: {{name: n, namespace: s}}, spec: {spec}}}");
        for text in [
            one.clone(),
            format!("kind: List\nitems: [{one}]\n"),
            format!("---\n{one}\n---\nkind: Service\nmetadata: {{name: s}}\n"),
        ] {
            let judged = judged(&text, Level::Hardened).unwrap();
            let name = format!("{kind} s/n, container c");
            assert_eq!(judged[&name], ["namespaces.host-pid"], "{text}");
        }
    }
    // Each container of a pod, whatever it is for.
    let all = "kind: Pod\nmetadata: {name: p}\nspec:\n  initContainers: [{name: i, image: x, securityContext: {privileged: true}}]\n  \
               containers: [{name: c, image: x}]\n  ephemeralContainers: [{name: e, image: x, securityContext: {capabilities: {add: [BPF]}}}]\n";
    let judged = judged(all, Level::Hardened).unwrap();
    assert_eq!(judged.len(), 4);
    assert_eq!(judged["Pod default/p, container i"], ["devices.allow-all"]);
    assert_eq!(judged["Pod default/p, container e"], ["capabilities.not-allowed"]);
    assert_eq!(judged[CONTAINER], [""; 0]);
}

#[test]
fn what_cannot_be_understood_is_an_error_and_never_a_yes() {
    for text in [
        pod("", "securityContext: {privileged: maybe}"),
        pod("", "securityContext: {privileged: [true]}"),
        pod("hostNetwork: {a: b}", ""),
        pod("", "securityContext: {runAsUser: -1}"),
        pod("", "securityContext: {runAsUser: 4294967296}"),
        pod("", "securityContext: [privileged]"),
        pod("", "volumeMounts: [{name: v, mountPath: /v}]"),
        pod("", "resources: {limits: {memory: lots}}"),
        "kind: Pod\nmetadata: {name: p}\nspec: {containers: []}\n".to_owned(),
        "kind: Pod\nmetadata: {name: p}\n".to_owned(),
        "metadata: {name: p}\nkind: ''\n".to_owned(),
        "services: {web: {privileged: '${P}'}}".to_owned(),
        "services: {web: {extends: {service: x}}}".to_owned(),
        "services: [web]".to_owned(),
        "services: {web: {volumes: ['a:b:c:d']}}".to_owned(),
    ] {
        assert!(judged(&text, Level::Hardened).is_err(), "{text}");
    }
    let read = |text: &[u8]| read(text, Path::new("f"), Path::new("/"), World::Docker);
    for text in [
        &b"a: 1\n"[..],
        b"just words",
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"[{\"HostConfig\": {}}, {}]",
        b"- a\n",
    ] {
        assert!(read(text).is_err(), "{text:?}");
    }
    // A name twice in JSON hides the first.
    assert!(read(br#"{"kind": "Pod", "spec": {"hostPID": true, "hostPID": false}}"#).is_err());
    assert!(matches!(read(br#"{"ociVersion": "1.0.2"}"#), Ok(Read::Config)));
}

#[test]
fn a_key_that_nobody_knows_is_told() {
    let text = pod("hostNetwrok: true", "securityContext: {Privileged: true}");
    let found = found(&text);
    let notes: Vec<&String> = found.wishes.iter().flat_map(|wish| &wish.assumed).collect();
    for meant in ["did you mean hostNetwork?", "did you mean privileged?"] {
        assert!(notes.iter().any(|note| note.contains(meant)), "{notes:?}");
    }
}

#[test]
fn a_compose_file_is_judged_by_each_of_its_words() {
    for (service, codes) in [
        ("{}", ""),
        ("{privileged: true}", "devices.allow-all"),
        ("{network_mode: host}", "namespaces.host-network"),
        ("{pid: host}", "namespaces.host-pid"),
        ("{ipc: host}", "namespaces.host-ipc"),
        ("{uts: host}", "namespaces.host-uts"),
        ("{cap_add: [net_admin]}", "capabilities.not-allowed"),
        ("{devices: ['/dev/fuse:/dev/fuse:rwm']}", "devices.not-allowed"),
        ("{volumes: ['/etc:/e:ro']}", "mounts.host-path"),
        ("{volumes: ['/usr:/u']}", "mounts.system-writable"),
        ("{volumes: ['/usr:/u:ro', 'v:/v', './d:/d', /anonymous]}", ""),
        (
            "{volumes: [{type: bind, source: /root, target: /r}]}",
            "mounts.host-path",
        ),
        (
            "{volumes: [{type: bind, source: ./x, target: /r, bind: {propagation: shared}}]}",
            "mounts.propagation",
        ),
        ("{sysctls: {kernel.core_pattern: x}}", "sysctl.not-namespaced"),
        ("{sysctls: ['net.ipv4.ip_local_port_range=1 2']}", ""),
        ("{pids_limit: 100000}", "cgroup.pids-above-max"),
        (
            "{entrypoint: [/data/run], volumes: ['./d:/data']}",
            "mounts.entrypoint-noexec",
        ),
        ("{tmpfs: ['/run:exec,size=1m', /x], read_only: true}", ""),
        (
            "{deploy: {resources: {limits: {memory: 64M, pids: 10}}}, ulimits: {nofile: 100}}",
            "",
        ),
    ] {
        let judged = judged(&format!("services: {{web: {service}}}"), Level::Hardened).unwrap();
        assert_eq!(judged["service web"].join(" "), codes, "{service}");
    }
    let user = |user: &str| judged(&format!("services: {{web: {{user: '{user}'}}}}"), Level::Restricted).unwrap();
    assert_eq!(user("0")["service web"], ["user.root"]);
    assert_eq!(user("1000")["service web"], ["user.root"], "the group may be root's");
    assert_eq!(user("1000:1000")["service web"], [""; 0]);
}

#[test]
fn engines_tell_of_containers() {
    for (host, config, codes) in [
        ("{}", "{}", ""),
        (r#"{"Privileged": true}"#, "{}", "devices.allow-all"),
        (
            r#"{"NetworkMode": "host", "PidMode": "host"}"#,
            "{}",
            "namespaces.host-pid namespaces.host-network",
        ),
        (r#"{"CapAdd": ["CAP_NET_ADMIN"]}"#, "{}", "capabilities.not-allowed"),
        (
            r#"{"Devices": [{"PathInContainer": "/dev/fuse"}]}"#,
            "{}",
            "devices.not-allowed",
        ),
        (
            r#"{"PidsLimit": 2048, "Memory": 0, "Tmpfs": {"/run": "rw,size=1m"}}"#,
            r#"{"User": "7:7"}"#,
            "",
        ),
        (
            "{}",
            r#"{"Annotations": {"dev.gabion.level": "restricted"}}"#,
            "user.root",
        ),
    ] {
        for engine in ["Docker", "podman"] {
            let more = if engine == "podman" {
                r#""OCIConfigPath": "/x","#
            } else {
                ""
            };
            let text = format!(
                r#"[{{{more} "Name": "/web", "Path": "/bin/x", "Args": ["-a"], "HostConfig": {host}, "Config": {config},
                    "Mounts": [{{"Type": "volume", "Name": "v", "Source": "/x", "Destination": "/v", "RW": true}}]}}]"#
            );
            let judged = judged(&text, Level::Hardened).unwrap();
            assert_eq!(judged["container web"].join(" "), codes, "{engine} {host} {config}");
        }
    }
    let bind = r#"{"Name": "w", "HostConfig": {}, "Mounts": [{"Type": "bind", "Source": "/etc", "Destination": "/e", "RW": false}]}"#;
    assert_eq!(
        judged(bind, Level::Hardened).unwrap()["container w"],
        ["mounts.host-path"]
    );
}

#[test]
fn each_place_is_the_persons_own() {
    let text = pod(
        "volumes: [{name: v, hostPath: {path: /data}}]",
        "volumeMounts: [{name: v, mountPath: /v}]\nsecurityContext: {capabilities: {add: [BPF]}}",
    );
    let found = found(&text);
    let (policy, _) = trusting(&Loaded::built_in(), &found.wishes);
    let wish = found.wishes.iter().find(|wish| wish.role == Role::Container).unwrap();
    let outcome = outcome(wish, &policy, &settings()).unwrap();
    let changes = outcome.report.decisions.iter().flat_map(|row| &row.changes);
    let places: BTreeMap<&str, &str> = changes
        .filter_map(|c| Some((c.code.as_deref()?, c.path.as_str())))
        .collect();
    assert_eq!(places["mounts.host-path"], "spec.volumes[0]");
    assert_eq!(
        places["capabilities.not-allowed"],
        "spec.containers[0].securityContext.capabilities.add"
    );
    let style = Style {
        colour: table::Colour::None,
        width: 100,
    };
    let shown = as_text(&[outcome], &[], &found, ("f", &policy), &style);
    assert!(shown.contains("at restricted: REFUSED"), "{shown}");
}
