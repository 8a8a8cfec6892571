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
