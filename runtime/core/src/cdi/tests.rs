use serde_json::json;

use super::*;

/// As `nvidia-ctk cdi generate` writes it.
const NVIDIA: &str = r#"---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
  env:
  - NVIDIA_VISIBLE_DEVICES=void # said to everybody
  hooks:
  - args:
    - nvidia-cdi-hook
    - create-symlinks
    - --link
    - ../libnvidia-allocator.so.1::/usr/lib/gbm/nvidia-drm_gbm.so
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
    args: [nvidia-cdi-hook, update-ldcache, "--folder", '/usr/lib64']
    env:
      - NVIDIA_CTK_DEBUG=false
  mounts:
  - containerPath: /usr/lib/libcuda.so.1
    hostPath: /usr/lib/libcuda.so.1
    options:
    - ro
    - nosuid
    - rbind
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      major: 195
      type: c
      minor: 0
      permissions: rw
  name: "0"
- name: all
  containerEdits: {}
kind: nvidia.com/gpu
"#;

fn says() -> Says {
    parse(NVIDIA.as_bytes()).unwrap()
}

#[test]
fn yaml_as_generators_write_it() {
    let says = says();
    let names: Vec<String> = says.each().map(|(name, _)| name).collect();
    assert_eq!(names, ["nvidia.com/gpu", "nvidia.com/gpu=0", "nvidia.com/gpu=all"]);
    assert_eq!(
        says.edits.hooks[1].args,
        ["nvidia-cdi-hook", "update-ldcache", "--folder", "/usr/lib64"]
    );
    assert_eq!(says.edits.hooks[1].env, ["NVIDIA_CTK_DEBUG=false"]);
    assert_eq!(
        says.edits.hooks[0].args[3],
        "../libnvidia-allocator.so.1::/usr/lib/gbm/nvidia-drm_gbm.so"
    );
    assert_eq!(says.edits.mounts[0].options, ["ro", "nosuid", "rbind"]);
    assert_eq!(says.devices[0].edits.device_nodes[0].major, Some(195));
    // And the same as JSON.
    let value = yaml::parse(NVIDIA).unwrap();
    assert_eq!(parse(value.to_string().as_bytes()).unwrap(), says);
}

#[test]
fn what_is_not_understood_is_not_believed() {
    for (text, why) in [
        ("", "empty"),
        ("kind: nvidia.com/gpu\nkind: nvidia.com/gpu\n", "second time"),
        ("kind: &a nvidia.com/gpu\n", "line 1"),
        ("kind: |\n  nvidia.com/gpu\n", "line 1"),
        ("kind: nvidia.com/gpu\n---\nkind: vendor.com/x\n", "more than one"),
        ("kind: nvidia.com/gpu\n  devices: []\n", "line 2"),
        ("kind: nvidia.com/gpu\ndevices: {a: b}\n", "line 2"),
        ("kind: nvidia.com/gpu\n\tdevices: []\n", "a tab"),
        ("kind: gpu\n", "is none"),
        ("kind: nvidia.com/gpu=0\n", "is none"),
        ("kind: 'nvidia.com/gpu\n", "does not end"),
        ("devices: []\n", "missing field `kind`"),
        (
            "kind: v.com/x\ncontainerEdits:\n  deviceNodes:\n  - path: /dev/a\n    fileMode: 0666\n",
            "begins with 0",
        ),
        (
            "kind: v.com/x\ncontainerEdits:\n  deviceNodes:\n  - path: /dev/a\n    hidden: true\n",
            "unknown field `hidden`",
        ),
        (
            r#"{"kind":"v.com/x","containerEdits":{"hooks":[{"hookName":"prestart","path":"/a","path":"/b"}]}}"#,
            "duplicate field",
        ),
        (r#"{"kind":"v.com/x"} {}"#, "trailing"),
    ] {
        let fault = parse(text.as_bytes()).unwrap_err();
        assert!(fault.contains(why), "{text:?}: {fault}");
        assert!(!fault.contains('\n'), "{fault:?}");
    }
    let deep = "[".repeat(1000);
    assert!(parse(format!("kind: v.com/x\ndevices: {deep}\n").as_bytes()).is_err());
    let deep: String = (0..1000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    assert!(parse(deep.as_bytes()).unwrap_err().contains("too deep"));
    assert!(parse(&[0xff, 0xfe]).is_err());
}

#[test]
fn kinds() {
    for good in ["nvidia.com/gpu", "vendor.com/x", "a/b", "intel.com/gpu_1.x"] {
        assert!(is_kind(good), "{good}");
    }
    for bad in [
        "",
        "gpu",
        "nvidia.com/",
        "/gpu",
        "nvidia.com/gpu=0",
        "nvidia.com/*",
        "a/b/c",
        "1a/b",
        "a./b",
        "*",
    ] {
        assert!(!is_kind(bad), "{bad}");
    }
}

fn differs(likeness: &Likeness, word: &str) -> bool {
    matches!(likeness, Likeness::Differs(1, what) if what.contains(word))
}

#[test]
fn a_node_is_equal_in_every_field_or_is_not() {
    let edit = &says().devices[0].edits.device_nodes[0];
    let cdi = Cdi::default();
    let seen = |value: serde_json::Value| edit.likeness(&serde_json::from_value(value).unwrap(), &cdi);
    let node = |typ: &str, major: u32, minor: u32| json!({"path": "/dev/nvidia0", "type": typ, "major": major, "minor": minor});
    assert_eq!(seen(node("c", 195, 0)), Likeness::Equal);
    assert!(differs(&seen(node("c", 195, 1)), "195:1"));
    assert!(differs(&seen(node("c", 8, 0)), "not c 195:0"));
    assert!(differs(&seen(node("b", 195, 0)), "b 195:0"));
    let other = json!({"path": "/dev/nvidia1", "type": "c", "major": 195, "minor": 0});
    assert_eq!(seen(other), Likeness::Unlike);
    let owned = NodeEdit {
        file_mode: Some(0o660),
        gid: Some(44),
        ..edit.clone()
    };
    let with = |more: serde_json::Value| {
        let mut value = node("c", 195, 0);
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        owned.likeness(&serde_json::from_value(value).unwrap(), &cdi)
    };
    assert_eq!(with(json!({"fileMode": 0o020_660, "gid": 44})), Likeness::Equal);
    assert!(differs(&with(json!({"fileMode": 0o666, "gid": 44})), "fileMode"));
    assert!(differs(&with(json!({"fileMode": 0o660, "gid": 0})), "gid"));
}

#[test]
fn what_a_file_leaves_open_the_host_says() {
    let edit = &says().edits.device_nodes[0];
    let node = |major: u32| {
        serde_json::from_value(json!({"path": "/dev/nvidiactl", "type": "c", "major": major, "minor": 255})).unwrap()
    };
    let mut cdi = Cdi::default();
    assert!(differs(&edit.likeness(&node(195), &cdi), "no such device"));
    cdi.nodes
        .insert("/dev/nvidiactl".into(), FileKind::CharDevice(195, 255));
    assert_eq!(edit.likeness(&node(195), &cdi), Likeness::Equal);
    assert!(differs(&edit.likeness(&node(8), &cdi), "c 8:255"));
    let block = NodeEdit {
        typ: Some("b".to_owned()),
        ..edit.clone()
    };
    assert!(differs(&block.likeness(&node(195), &cdi), "no such device"));
}

#[test]
fn a_mount_and_a_hook_are_equal_in_every_field_or_are_not() {
    let says = says();
    let mount = |source: &str, destination: &str, options: &[&str], typ: &str| {
        let value = json!({"source": source, "destination": destination, "options": options, "type": typ});
        says.edits.mounts[0].likeness(&serde_json::from_value(value).unwrap())
    };
    let (lib, all) = ("/usr/lib/libcuda.so.1", ["ro", "nosuid", "rbind"]);
    assert_eq!(mount(lib, lib, &all, ""), Likeness::Equal);
    assert_eq!(mount(lib, lib, &all, "bind"), Likeness::Equal);
    assert!(differs(
        &mount("/etc/shadow", lib, &all, ""),
        "its source is /etc/shadow"
    ));
    assert!(differs(&mount(lib, "/x", &all, ""), "its destination"));
    assert!(differs(&mount(lib, lib, &["rw", "nosuid", "rbind"], ""), "its options"));
    assert!(differs(&mount(lib, lib, &all, "overlay"), "its type"));
    assert_eq!(mount("/a", "/b", &all, ""), Likeness::Unlike);
    let hook = |stage: &str, value: serde_json::Value| {
        says.edits.hooks[1].likeness(stage, &serde_json::from_value(value).unwrap())
    };
    let args = ["nvidia-cdi-hook", "update-ldcache", "--folder", "/usr/lib64"];
    let (path, env) = ("/usr/bin/nvidia-cdi-hook", ["NVIDIA_CTK_DEBUG=false"]);
    let equal = json!({"path": path, "args": args, "env": env});
    assert_eq!(hook("createContainer", equal.clone()), Likeness::Equal);
    assert!(differs(&hook("poststop", equal), "it is a poststop hook"));
    let forged = json!({"path": path, "args": [args[0], args[1], "--folder", "/etc"], "env": env});
    assert!(differs(&hook("createContainer", forged), "its arguments"));
    assert!(differs(
        &hook("createContainer", json!({"path": path, "args": args})),
        "its environment"
    ));
    let timed = json!({"path": path, "args": args, "env": env, "timeout": 1});
    assert!(differs(&hook("createContainer", timed), "its timeout"));
    assert_eq!(hook("createContainer", json!({"path": "/bin/sh"})), Likeness::Unlike);
}
