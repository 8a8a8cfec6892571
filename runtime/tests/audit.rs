//! The audit log of real containers.
#![allow(clippy::unwrap_used)]

mod programs;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use live::Running;
use serde_json::{Value, json};

mod live;

fn records(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn log(container: &Running) -> Vec<Value> {
    records(&container.dir.join("log/audit.jsonl"))
}

fn events(records: &[Value]) -> Vec<&str> {
    records.iter().map(|r| r["event"].as_str().unwrap()).collect()
}

fn verified(container: &Running) -> String {
    let out = container.gabion(&["audit", "verify"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn a_life_is_written_down_where_create_said() {
    let Some(container) = Running::with("life", "create", |_| {}) else {
        return;
    };
    let id = container.id.clone();
    // Other flags, or none: podman's exec and start.
    let elsewhere = container.path("elsewhere/audit.jsonl");
    let others = ["--audit-log", elsewhere.as_str()];
    assert!(container.with_globals(&others, &["start", &id]).status.success());
    let exec = ["exec", "--env", "TOKEN=hunter2", &id, "sh", "-c", "exit 3"];
    assert_eq!(container.with_globals(&others, &exec).status.code(), Some(3));
    assert_eq!(
        container
            .gabion(&["exec", "--cap", "CAP_SYS_ADMIN", &id, "sh"])
            .status
            .code(),
        Some(255)
    );
    assert_eq!(container.gabion(&["exec", &id, "/nowhere"]).status.code(), Some(255));
    for words in [
        &["update", "--pids-limit", "77", &id][..],
        &["pause", &id],
        &["resume", &id],
    ] {
        assert!(container.with_globals(&others, words).status.success(), "{words:?}");
    }
    assert!(container.gabion(&["kill", &id, "0"]).status.success());
    assert!(container.gabion(&["kill", &id, "KILL"]).status.success());
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(container.gabion(&["delete", &id]).status.success());
    let all = log(&container);
    assert_eq!(
        events(&all),
        [
            "create", "start", "exec", "refusal", "exec", "failure", "update", "pause", "resume", "kill", "delete"
        ]
    );
    assert!(!Path::new(&elsewhere).exists());
    for (index, record) in all.iter().enumerate() {
        assert_eq!(
            (&record["seq"], &record["v"], &record["id"]),
            (&json!(index + 1), &json!(1), &json!(id))
        );
        assert_eq!(record["level"], "hardened");
    }
    let codes: Vec<&Value> = all[0]["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["control"])
        .collect();
    assert!(
        codes.contains(&&json!("seccomp")) && codes.contains(&&json!("landlock")),
        "{codes:?}"
    );
    assert_eq!(all[2]["process"]["args"], json!(["sh", "-c", "exit 3"]));
    assert!(all[2]["process"]["env"].as_array().unwrap().contains(&json!("TOKEN")));
    let text = fs::read_to_string(container.dir.join("log/audit.jsonl")).unwrap();
    assert!(!text.contains("hunter2"));
    assert_eq!(
        (&all[3]["of"], &all[3]["codes"]),
        (&json!("exec"), &json!(["exec.widen"]))
    );
    assert_eq!(all[5]["code"], "program.not-found");
    assert_eq!(all[6]["limits"]["pids"]["limit"], 77);
    assert_eq!((&all[9]["signal"], &all[9]["to"]), (&json!(9), &json!("init")));
    assert!(verified(&container).contains("holds: 11 records, 1 to 11"));
    let mode = |name: &str| fs::metadata(container.dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("log"), mode("log/audit.jsonl")), (0o700, 0o600));
    // The head, kept elsewhere, shows a tail that was cut.
    let head = String::from_utf8(container.gabion(&["audit", "head"]).stdout).unwrap();
    let hash = head.split(' ').next().unwrap().to_owned();
    assert!(container.gabion(&["audit", "verify", "--head", &hash]).status.success());
    let cut: String = text.split_inclusive('\n').take(10).collect();
    fs::write(container.dir.join("log/audit.jsonl"), cut).unwrap();
    let out = container.gabion(&["audit", "verify", "--without", "head"]);
    assert!(out.status.success(), "{out:?}");
    // And so does the head that gabion keeps, without anybody's doing.
    let out = container.gabion(&["audit", "verify"]);
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(
        out.status.code() == Some(3) && said.contains("record 11, which the head in"),
        "{said}"
    );
    assert_eq!(
        container.gabion(&["audit", "verify", "--head", &hash]).status.code(),
        Some(3)
    );
}

#[test]
fn refusals_and_failures_are_written_down() {
    let Some(container) = Running::with("refused", "", |spec| {
        spec["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
        spec["linux"]["namespaces"] =
            json!([{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "cgroup"}]);
    }) else {
        return;
    };
    let bundle = container.path("bundle");
    assert_eq!(
        container
            .gabion(&["create", "-b", &bundle, &container.id])
            .status
            .code(),
        Some(1)
    );
    let all = log(&container);
    assert_eq!(events(&all), ["refusal"]);
    assert_eq!(
        all[0]["codes"],
        json!(["namespaces.host-network", "capabilities.not-allowed"])
    );
    assert_eq!(
        all[0]["message"],
        container.said().trim().strip_prefix("gabion: ").unwrap()
    );
    // permissive: the same, as what would have been.
    let level = [
        "--level",
        "permissive",
        "--audit-log",
        &container.path("log/audit.jsonl"),
    ];
    assert!(
        container
            .with_globals(&level, &["create", "-b", &bundle, &container.id])
            .status
            .success(),
        "{}",
        container.said()
    );
    let all = log(&container);
    let would = all[1]["changes"].as_array().unwrap();
    assert!(
        would
            .iter()
            .any(|c| c["verdict"] == "would refuse" && c["code"] == "namespaces.host-network"),
        "{would:?}"
    );
    assert!(
        would
            .iter()
            .all(|c| c["verdict"].as_str().unwrap().starts_with("would "))
    );
    // The id is taken now.
    assert_eq!(
        container
            .with_globals(&level, &["create", "-b", &bundle, &container.id])
            .status
            .code(),
        Some(1)
    );
    let all = log(&container);
    assert_eq!(events(&all), ["refusal", "create", "create", "failure"]);
    assert_eq!(all[3]["code"], "id.exists");
    verified(&container);
}

#[test]
fn without_a_log_nothing_starts_where_the_policy_says_so() {
    let Some(container) = Running::with("unwritable", "", |spec| {
        spec["process"]["args"] = json!(["sh", "-c", "exit 7"]);
    }) else {
        return;
    };
    // A directory that others can write to.
    let open = container.dir.join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let policy = |name: &str, text: String| {
        let path = container.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let file = format!("[audit]\nfile = \"{}/audit.jsonl\"\n", open.display());
    let bundle = container.path("bundle");
    let run = |policy: &str| {
        container
            .with_globals(&["--policy", policy], &["run", "-b", &bundle, &container.id])
            .status
            .code()
    };
    assert_eq!(
        run(&policy("refuse.toml", format!("{file}on_failure = \"refuse\"\n"))),
        Some(1)
    );
    assert!(
        container.said().contains("refused [audit.unwritable]"),
        "{}",
        container.said()
    );
    assert!(
        fs::read_dir(container.dir.join("state")).map_or(true, |mut d| d.next().is_none()),
        "something was made"
    );
    assert_eq!(run(&policy("warn.toml", file)), Some(7));
    assert!(
        container
            .said()
            .contains("gabion: warning: the audit log: cannot trust"),
        "{}",
        container.said()
    );
    // A locked policy's log is not the caller's to choose.
    let locked = policy(
        "locked.toml",
        format!(
            "lock = true\n[audit]\nfile = \"{}\"\n",
            container.path("log/audit.jsonl")
        ),
    );
    let out = container.with_globals(
        &["--policy", &locked, "--audit-log", "/tmp/x"],
        &["run", "-b", &bundle, &container.id],
    );
    assert_eq!(out.status.code(), Some(1));
    assert!(
        container.said().contains("--audit-log") && container.said().contains("is locked"),
        "{}",
        container.said()
    );
    assert_eq!(run(&locked), Some(7));
    assert_eq!(events(&log(&container)), ["create", "start", "delete"]);
}

#[test]
fn exceptions_and_redaction() {
    let Some(container) = Running::with("excepted", "", |spec| {
        spec["process"]["args"] = json!(["sh", "-c", "exit 0 # hunter2"]);
        spec["annotations"] = json!({
            "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "s",
            "io.kubernetes.cri.sandbox-namespace": "kube-system", "io.kubernetes.cri.sandbox-name": "proxy-1",
            "io.kubernetes.cri.sandbox-uid": "u"});
    }) else {
        return;
    };
    let policy = container.path("p.toml");
    let node = container.by_containerd();
    let text = format!(
        "{node}[audit]\nfile = \"{}\"\nredact_args = true\n[[exception]]\nreason = \"it must\"\n\
         match = {{ namespace = \"kube-system\", name = \"proxy-*\" }}\nloosen = [\"rootfs\"]\n",
        container.path("log/audit.jsonl")
    );
    fs::write(&policy, text).unwrap();
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o600)).unwrap();
    let bundle = container.path("bundle");
    let words = ["run", "--from-shim", "k8s.io", "-b", &bundle, &container.id];
    let out = container.with_globals(&["--policy", &policy], &words);
    assert!(out.status.success(), "{}", container.said());
    let all = log(&container);
    assert_eq!(events(&all), ["exception", "create", "start", "delete"]);
    assert_eq!(all[0]["reason"], "it must");
    for record in &all {
        assert_eq!(record["exceptions"], json!(["it must"]));
        assert_eq!(
            record["pod"],
            json!({"namespace": "kube-system", "name": "proxy-1", "type": "container"})
        );
        assert_eq!(record["caller"], "cri");
    }
    assert_eq!(
        (&all[1]["process"]["args"], &all[1]["process"]["args_left_out"]),
        (&json!(["sh"]), &json!(2))
    );
    assert!(
        !fs::read_to_string(container.dir.join("log/audit.jsonl"))
            .unwrap()
            .contains("hunter2")
    );
}

#[test]
fn many_runtimes_keep_one_chain() {
    let Some(container) = Running::with("many", "", |spec| {
        spec["process"]["args"] = json!(["sh", "-c", "exit 0"]);
        spec["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    }) else {
        return;
    };
    let (root, log_file, bundle) = (
        container.path("state"),
        container.path("log/audit.jsonl"),
        container.path("bundle"),
    );
    let children: Vec<_> = (0..12)
        .map(|i| {
            let id = format!("{}-{i}", container.id);
            let mut command = programs::gabion();
            command
                .args(["--root", &root, "--audit-log", &log_file, "run", "-b", &bundle, &id])
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert!(
        verified(&container).contains("holds: 36 records"),
        "{}",
        verified(&container)
    );
}

#[test]
fn moving_over_as_documented() {
    let pod = |name: &str| {
        json!({
            "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "s",
            "io.kubernetes.cri.sandbox-namespace": "kube-system", "io.kubernetes.cri.sandbox-name": name,
            "io.kubernetes.cri.sandbox-uid": "u"})
    };
    let Some(container) = Running::with("migrate", "", |spec| {
        spec["process"]["args"] = json!(["sh", "-c", "exit 0"]);
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|n| n["type"] != "network");
    }) else {
        return;
    };
    let node = container.by_containerd();
    let config = container.dir.join("bundle/config.json");
    let policy = container.path("p.toml");
    let say = |level: &str, more: &str| {
        let log = container.path("log/audit.jsonl");
        let text = format!("level = \"{level}\"\n{node}[audit]\nfile = \"{log}\"\n{more}");
        fs::write(&policy, text).unwrap();
        fs::set_permissions(&policy, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(container.gabion(&["policy", "validate", &policy]).status.success());
    };
    let run = |name: &str| {
        let mut spec: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        spec["annotations"] = pod(name);
        fs::write(&config, spec.to_string()).unwrap();
        let bundle = container.path("bundle");
        let words = ["run", "--from-shim", "k8s.io", "-b", &bundle, &container.id];
        container.with_globals(&["--policy", &policy], &words).status.code()
    };
    // 1 and 2: it runs, and what would be is in the log and in the summary.
    say("permissive", "");
    assert_eq!(run("proxy-1"), Some(0), "{}", container.said());
    let all = log(&container);
    let create = all.iter().find(|r| r["event"] == "create").unwrap();
    let would = create["changes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["verdict"] == "would refuse");
    assert_eq!(
        would.map(|c| c["code"].as_str().unwrap()).collect::<Vec<_>>(),
        ["namespaces.host-network"]
    );
    let summary = |globals: &[&str]| {
        let words = ["check", "--summary", "--format", "json", &container.path("bundle")];
        let out = container.with_globals(&[&["--policy", policy.as_str()], globals].concat(), &words);
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        (out.status.code(), report["codes"].clone())
    };
    let (code, codes) = summary(&["--level", "hardened"]);
    assert_eq!(
        (code, codes.as_object().unwrap().keys().collect::<Vec<_>>()),
        (Some(3), vec![&"namespaces.host-network".to_owned()])
    );
    // 3: the exception, and nothing is in the way any more.
    let exception = "[[exception]]\nreason = \"the proxy\"\nmatch = { namespace = \"kube-system\", name = \"proxy-*\" }\n\
                     loosen = [\"namespaces\"]\n";
    say("permissive", exception);
    assert_eq!(summary(&["--level", "hardened"]).0, Some(0));
    // 4: hardened. The excepted one runs, another one does not.
    say("hardened", exception);
    assert_eq!(run("proxy-1"), Some(0), "{}", container.said());
    assert_eq!(run("other"), Some(1));
    assert!(
        container.said().contains("[namespaces.host-network]"),
        "{}",
        container.said()
    );
    let all = log(&container);
    assert_eq!(all.last().unwrap()["event"], "refusal");
    assert!(
        all.iter()
            .any(|r| r["event"] == "exception" && r["reason"] == "the proxy")
    );
}

#[test]
fn a_log_that_is_taken_away_shows_in_the_next_record_and_anchors_fit() {
    let Some(container) = Running::new("taken") else {
        return;
    };
    let log = container.dir.join("log/audit.jsonl");
    let exec = || {
        container
            .gabion(&["exec", &container.id, "sh", "-c", "exit 0"])
            .status
            .success()
    };
    assert!(exec() && exec());
    // What head prints, verify takes: one of them, many of them, in quotes or without.
    let head = || String::from_utf8(container.gabion(&["audit", "head"]).stdout).unwrap();
    let heads = [head(), {
        assert!(exec());
        head()
    }]
    .concat();
    let words: Vec<&str> = heads.split_whitespace().collect();
    for given in [vec![heads.as_str()], words.clone(), vec![words[0]]] {
        let out = container.gabion(&[&["audit", "verify", "--head"][..], &given].concat());
        let said = String::from_utf8(out.stdout).unwrap();
        assert!(
            out.status.success() && said.contains("as --head has them"),
            "{given:?}: {said} {}",
            container.said()
        );
        assert!(said.contains("1 record as the head in"), "{said}");
    }
    let forged = format!("{} {}", "0".repeat(64), words[1]);
    assert_eq!(
        container.gabion(&["audit", "verify", "--head", &forged]).status.code(),
        Some(3)
    );
    // Away with it: the container is not held up, and its next record tells.
    fs::rename(&log, container.dir.join("taken.jsonl")).unwrap();
    assert!(exec());
    let records = self::log(&container);
    assert_eq!(events(&records), ["lost", "exec"]);
    assert_eq!(
        (&records[0]["expected"], &records[0]["found"]),
        (&json!(words[3].parse::<u64>().unwrap()), &json!(0))
    );
    assert_eq!(container.gabion(&["audit", "verify"]).status.code(), Some(3));
    let out = container.gabion(&["audit", "verify", "--known", "1"]);
    assert!(out.status.success(), "{out:?}");
    // The copy is whole, but for what came after it.
    let copy = container.path("taken.jsonl");
    let out = container.gabion(&["audit", "verify", &copy]);
    assert!(
        out.status.success() && String::from_utf8_lossy(&out.stdout).contains("not compared: the head in"),
        "{out:?}"
    );
}

#[test]
fn the_policy_s_bounds_hold_for_the_files_and_repeated_execs_are_counted() {
    let Some(container) = Running::with("bounds", "", |_| {}) else {
        return;
    };
    let (policy, log) = (container.path("policy.toml"), container.path("log/audit.jsonl"));
    let group = 4;
    fs::write(
        &policy,
        format!("[audit]\nfile = \"{log}\"\nmode = \"0640\"\ngroup = \"{group}\"\nmax_size = \"1m\"\nfiles = 2\nrepeated_exec = \"count\"\nhead = \"{}\"\n", container.path("kept/head")),
    )
    .unwrap();
    let globals = ["--policy", policy.as_str()];
    let run = ["run", "--detach", "-b", &container.path("bundle"), &container.id];
    assert!(
        container.with_globals(&globals, &run).status.success(),
        "{}",
        container.said()
    );
    // Later calls say nothing of a policy.
    let exec = |script: &str| {
        container
            .with_globals(&[], &["exec", &container.id, "sh", "-c", script])
            .status
            .code()
    };
    for _ in 0..3 {
        assert_eq!(exec("exit 0"), Some(0));
    }
    assert_eq!(exec("exit 7"), Some(7));
    assert_eq!(exec("exit 0"), Some(0));
    let all = records(Path::new(&log));
    assert_eq!(events(&all), ["create", "start", "exec", "exec"]);
    assert!(Path::new(&container.path("kept/head")).exists());
    let owner = |path: &Path| {
        let meta = fs::metadata(path).unwrap();
        (
            meta.permissions().mode() & 0o777,
            std::os::unix::fs::MetadataExt::gid(&meta),
        )
    };
    assert_eq!(owner(Path::new(&log)), (0o640, group));
    assert_eq!(owner(&container.dir.join("log")), (0o750, group));
    assert!(
        container.with_globals(&globals, &["audit", "verify"]).status.success(),
        "{}",
        container.said()
    );
    assert!(
        container
            .with_globals(&[], &["delete", "--force", &container.id])
            .status
            .success(),
        "{}",
        container.said()
    );
    let all = records(Path::new(&log));
    let last = all.last().unwrap();
    assert_eq!((&last["event"], &last["repeats"]), (&json!("delete"), &json!(3)));
    assert!(!container.dir.join("state").join(&container.id).exists());
}
