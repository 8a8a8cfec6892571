//! `podman build`: refused, where a `RUN` would lose what it writes; done at level permissive.

use integration::Podman;
use std::fs;

fn build(podman: &Podman, run: &str) -> integration::Done {
    let dir = podman.bundle.dir.join("context");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("Containerfile"), format!("FROM localhost/img\nRUN {run}\n")).unwrap();
    podman.call(&["build", "--network", "none", "--tag", "built", dir.to_str().unwrap()])
}

#[test]
fn a_build_is_refused_with_the_remedy() {
    let Some(podman) = Podman::new("podman-build", "hardened") else {
        return;
    };
    // Into a hole: it would succeed, and the image would lack it.
    let done = build(&podman, "echo kept > /var/tmp/file");
    assert_ne!(done.code, 0, "{done}");
    done.says(&["refused [rootfs.build]", "podman build --runtime runc"]);
    podman.call(&["image", "exists", "built"]).fails_with(1);
}

#[test]
fn a_build_is_done_at_permissive() {
    let Some(podman) = Podman::new("podman-build-permissive", "permissive") else {
        return;
    };
    build(&podman, "echo kept > /var/tmp/file; echo too > /usr/x").ok();
    let done = podman.call(&[
        "run",
        "--rm",
        "--network",
        "none",
        "built",
        "cat",
        "/var/tmp/file",
        "/usr/x",
    ]);
    assert_eq!(done.ok().out, "kept\ntoo\n");
}
