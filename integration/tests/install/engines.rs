//! What hack/install writes depends on the containerd that is there.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use integration::Done;

use crate::{CRI_SECTION, Place, asked_lines};

/// A containerd that says another version, and reads configurations as the machine's does.
fn with_version(place: &Place, version: &str, args: &[&str]) -> Done {
    let bin = place.bundle.dir.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let text = format!(
        "#!/bin/sh\n[ \"$1\" != --version ] || {{ echo 'containerd github.com/containerd/containerd/v2 {version} 0'; exit; }}\n\
         PATH=${{PATH#*:}}\nexec containerd \"$@\"\n"
    );
    fs::write(bin.join("containerd"), text).unwrap();
    fs::set_permissions(bin.join("containerd"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    place.with_path("install", args, &path)
}

/// containerd 2.0 to 2.3.3 ask only handlers of runc's type what they can do.
#[test]
fn the_handler_is_of_the_type_that_this_containerd_asks() {
    for (version, by_runc) in [
        ("2.0.0", true),
        ("2.1.9+unknown", true),
        ("v2.2.5", true),
        ("2.3.3", true),
        ("2.3.4", false),
        ("2.4.0-beta.0", false),
    ] {
        let place = Place::small("install-type");
        // 2.x merges sections, which the machine's need not do: runc's handler is written down.
        let runc = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n";
        place.config(&format!("version = 2\n{CRI_SECTION}{runc}"));
        let copy = place.root.join("usr/local/bin/containerd-shim-gabion-restricted-v2");
        let done = with_version(&place, version, &["--containerd"]).ok();
        let lines = asked_lines(&done);
        let has = |what: &str| lines.contains(what);
        assert_eq!(
            has("runtime_type = \"io.containerd.runc.v2\""),
            by_runc,
            "{version}: {lines}"
        );
        assert_eq!(
            has("runtime_path = \"/usr/local/bin/containerd-shim-gabion-restricted-v2\""),
            by_runc,
            "{lines}"
        );
        assert_eq!(has("SystemdCgroup = false"), by_runc, "{lines}");
        assert_eq!(
            has("ConfigPath = \"/etc/gabion/containerd-restricted.toml\""),
            !by_runc,
            "{lines}"
        );
        assert_eq!(copy.exists(), by_runc, "{done}");
        assert!(
            place
                .text("etc/gabion/containerd-restricted.toml")
                .contains("level = \"restricted\"")
        );
        place.below("uninstall", &[]).ok();
        assert!(!copy.exists(), "it is taken back");
    }
    let place = Place::small("install-old");
    place.config("version = 2\n");
    let done = place.below("install", &["--containerd"]).ok();
    let old = std::process::Command::new("containerd")
        .arg("--version")
        .output()
        .unwrap();
    if String::from_utf8(old.stdout).unwrap().contains(" 1.") {
        assert!(done.out.contains("has no user namespaces for pods"), "{done}");
    }
}

/// All of the machine's programs but containerd, in a directory of the test's own.
fn without_containerd(place: &Place) -> String {
    let bin = place.bundle.dir.join("tools");
    fs::create_dir(&bin).unwrap();
    for dir in ["/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let at = bin.join(entry.file_name());
            if entry.file_name() != "containerd" && at.symlink_metadata().is_err() {
                std::os::unix::fs::symlink(entry.path(), at).unwrap();
            }
        }
    }
    bin.display().to_string()
}

/// k3s writes containerd's configuration from a template, which takes the handlers; its places are in the policy.
#[test]
fn the_containerd_of_k3s_is_found() {
    for (name, bin, version, template, type_of) in [
        (
            "k3s",
            "var/lib/rancher/k3s/data/current/bin",
            "v2.1.4-k3s1",
            "config-v3.toml.tmpl",
            "io.containerd.runc.v2",
        ),
        (
            "rke2",
            "var/lib/rancher/rke2/bin",
            "v1.7.27-k3s1",
            "config.toml.tmpl",
            "io.containerd.gabion.v2",
        ),
    ] {
        let place = Place::small("install-rancher");
        let bin = place.root.join(bin);
        fs::create_dir_all(&bin).unwrap();
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && echo 'containerd github.com/k3s-io/containerd {version} 0'\n"
        );
        fs::write(bin.join("containerd"), text).unwrap();
        fs::set_permissions(bin.join("containerd"), fs::Permissions::from_mode(0o755)).unwrap();
        let agent = format!("var/lib/rancher/{name}/agent");
        let etc = place.root.join(&agent).join("etc/containerd");
        fs::create_dir_all(&etc).unwrap();
        fs::write(etc.join("config.toml"), "    SystemdCgroup = true\n").unwrap();
        let done = place
            .with_path("install", &["--containerd"], &without_containerd(&place))
            .ok();
        let text = place.text(&format!("{agent}/etc/containerd/{template}"));
        assert!(text.starts_with("{{ template \"base\" . }}\n"), "{text}");
        assert!(text.contains(&format!("runtime_type = \"{type_of}\"")), "{text}");
        assert!(
            text.contains("runtime_path = \"/usr/local/bin/containerd-shim-gabion-v2\""),
            "{text}"
        );
        assert_eq!(
            text.contains("SystemdCgroup = true"),
            version.starts_with("v2"),
            "{text}"
        );
        assert!(
            place
                .text("etc/gabion/containerd.toml")
                .contains("systemd_cgroup = true")
        );
        let policy = place.text("etc/gabion/policy.toml");
        assert!(
            policy.contains(&format!("\ncontainerd_root = \"/{agent}/containerd\"\n")),
            "{policy}"
        );
        assert!(
            policy.contains("\ncontainerd_state = \"/run/k3s/containerd\"\n"),
            "{policy}"
        );
        assert!(policy.contains("\ncri = \"containerd\"\n"), "{policy}");
        assert!(!place.root.join("etc/containerd").exists(), "{done}");
        assert!(done.out.contains(&format!("systemctl restart {name}")), "{done}");

        // Somebody's own template stays.
        let own = "{{ template \"base\" . }}\n# mine\n";
        fs::write(etc.join(template), own).unwrap();
        let tools = place.bundle.dir.join("tools").display().to_string();
        let again = place.with_path("install", &["--containerd"], &tools).ok();
        assert_eq!(place.text(&format!("{agent}/etc/containerd/{template}")), own);
        assert!(again.out.contains("add what follows the first line of"), "{again}");
        place.below("uninstall", &[]).ok();
        assert_eq!(place.text(&format!("{agent}/etc/containerd/{template}")), own);
    }
}

/// Another containerd by its options: its places are in the policy, and a later run knows them.
#[test]
fn another_containerd_is_named_by_options() {
    let place = Place::small("install-named");
    let bin = place.bundle.dir.join("other");
    let real = "#!/bin/sh\nexec containerd \"$@\"\n";
    fs::write(&bin, real).unwrap();
    fs::set_permissions(&bin, fs::Permissions::from_mode(0o755)).unwrap();
    let option = format!("--containerd-bin={}", bin.display());
    let options = [
        option.as_str(),
        "--containerd-root=/var/lib/k0s/containerd",
        "--containerd-state",
        "/run/k0s/containerd",
    ];
    place.below("install", &options).ok();
    let has = || {
        let policy = place.text("etc/gabion/policy.toml");
        let said = |line: &str| policy.contains(line);
        said("\ncontainerd_root = \"/var/lib/k0s/containerd\"\n")
            && said("\ncontainerd_state = \"/run/k0s/containerd\"\n")
    };
    assert!(has());
    let again = place.below("install", &[]).ok();
    assert!(has() && !again.out.contains("replace"), "{again}");
    place
        .below("install", &["--containerd-root", "k0s"])
        .fails_with(2)
        .says(&["an absolute path"]);
}
