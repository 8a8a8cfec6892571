//! What a container reaches is judged by what it is, however the spec names, hides, aliases or repeats it.

mod generated;
mod host;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use host::{HostMount, Tree};
use integration::{Bundle, Container, Outcome, Policy, Runtime};
use serde_json::json;

fn hardens() -> bool {
    Runtime::under_test().hardens
}

/// Tries the act; gives the refusal's code, or what the kernel answered. What the test mounted on the host goes before the container is looked
/// for traces.
fn ends(bundle: Bundle, mounts: Vec<HostMount>, policy: &Policy, act: &str) -> String {
    let mut container = Container::new(bundle).policy(policy);
    let outcome = container.acts(&[act]);
    drop(mounts);
    match outcome {
        Outcome::Refused { code, .. } => code,
        Outcome::Answers(all) => all.get(act).cloned().unwrap_or_default(),
        Outcome::Broken(text) => text,
    }
}

/// The host's procfs comes along below a volume. A spec that makes the root read-only once more, or hides the volume, hides nothing from the
/// check (walls H1).
#[test]
fn the_hosts_procfs_below_a_volume_is_seen_whatever_covers_it() {
    if !hardens() {
        return;
    }
    let act = "read-file=/data/proc/sys/kernel/core_pattern";
    let make = |name: &str, list: &str, path: &str| {
        let mut bundle = Bundle::new(&format!("reach-proc-{name}"));
        symlink("/", bundle.rootfs().join("up")).unwrap();
        let volume = bundle.host_dir("volume");
        if !list.is_empty() {
            bundle.config.set(list, json!([path]));
        }
        bundle.config.bind(volume.to_str().unwrap(), "/data", &["rw"]);
        let proc = HostMount::new(&["-t", "proc", "proc"], &volume.join("proc"));
        (bundle, vec![proc])
    };
    for (name, list, path) in [
        ("none", "", ""),
        ("root", "/linux/readonlyPaths", "/"),
        ("root-by-dots", "/linux/maskedPaths", "/bin/.."),
        ("root-by-a-link", "/linux/readonlyPaths", "/up/"),
        ("volume", "/linux/readonlyPaths", "/data"),
        ("masked", "/linux/maskedPaths", "/data"),
    ] {
        let (bundle, mounts) = make(name, list, path);
        let end = ends(bundle, mounts, &Policy::hardened(), act);
        let refused =
            end == "mounts.kernel-source" || end.contains("mounts.not-enforced") || end == "masked_paths.root";
        assert!(refused, "{name}: {end}");
    }
    // With the rule off the host's procfs is there.
    let (bundle, mounts) = make("off", "", "");
    let end = ends(bundle, mounts, &Policy::hardened().observe("mounts"), act);
    assert!(end.starts_with("ok"), "{end}");
}

/// A link of the image brings a path of the list to the root: create says so, whatever else is judged.
#[test]
fn a_read_only_path_that_leads_to_the_root_is_refused() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("reach-up");
    symlink("/", bundle.rootfs().join("up")).unwrap();
    bundle.config.set("/linux/readonlyPaths", json!(["/up/"]));
    let end = ends(bundle, Vec::new(), &Policy::hardened(), "cwd");
    assert_eq!(end, "masked_paths.root");
}

/// The same below root.path, as in a chroot of the host.
#[test]
fn the_hosts_procfs_below_the_root_is_seen_whatever_covers_it() {
    if !hardens() {
        return;
    }
    let act = "read-file=/srv/proc/1/cmdline";
    let make = |name: &str, list: &str, path: &str| {
        let mut bundle = Bundle::new(&format!("reach-chroot-{name}"));
        bundle.config.set(list, json!([path]));
        let at = bundle.rootfs().join("srv/proc");
        (bundle, vec![HostMount::new(&["-t", "proc", "-o", "ro", "proc"], &at)])
    };
    for (name, list, path) in [
        ("none", "/linux/readonlyPaths", "/proc/sys"),
        ("root", "/linux/readonlyPaths", "/"),
        ("above", "/linux/readonlyPaths", "/srv"),
        ("exactly", "/linux/readonlyPaths", "/srv/proc"),
        ("masked", "/linux/maskedPaths", "/srv"),
    ] {
        let (bundle, mounts) = make(name, list, path);
        let end = ends(bundle, mounts, &Policy::hardened(), act);
        let refused = [
            "rootfs.host",
            "rootfs.not-enforced",
            "mounts.not-enforced",
            "masked_paths.root",
        ];
        assert!(refused.iter().any(|c| end.contains(c)), "{name}: {end}");
    }
    let (bundle, mounts) = make("off", "/linux/readonlyPaths", "/proc/sys");
    let off = Policy::hardened().observe("mounts").observe("rootfs");
    let end = ends(bundle, mounts, &off, act);
    assert!(end.starts_with("ok"), "{end}");
}

/// A directory of sockets, or another container's root, is no image because an engine's tree holds it (walls H2). `containerd_state` stands
/// in for /run/containerd.
#[test]
fn an_engines_directory_of_sockets_is_no_root() {
    if !hardens() {
        return;
    }
    for (part, good) in [
        ("s", false),
        ("io.containerd.runtime.v2.task/k8s.io/another/rootfs", false),
        ("io.containerd.runtime.v2.task/k8s.io/ID/rootfs", true),
    ] {
        let tree = Tree::new();
        let mut bundle = Bundle::new("reach-root");
        let root = tree.path(&part.replace("ID", &bundle.name));
        fs::create_dir_all(root.parent().unwrap()).unwrap();
        fs::rename(bundle.rootfs(), &root).unwrap();
        bundle.config.set("/root/path", json!(root));
        let state = format!("\n[mounts]\ncontainerd_state = \"{}\"\n", tree.path("").display());
        bundle.config.acts(&["cwd"]);
        let container = Container::new(bundle).policy_text(&format!("level = \"hardened\"\n{state}"));
        let end = Outcome::of(&container.run());
        if good {
            end.ok("cwd");
        } else {
            assert!(
                matches!(&end, Outcome::Refused { code, .. } if code == "rootfs.host"),
                "{part}: {end:?}"
            );
        }
        drop(container);
    }
}

/// What is written at one place and run at another.
struct Twice {
    name: &'static str,
    /// Source of the writable mount, and of the read-only one, in the tree.
    sources: [&'static str; 2],
    write: &'static str,
    run: &'static str,
}

const TWICE: &[Twice] = &[
    Twice {
        name: "same",
        sources: ["a", "a"],
        write: "/data/x",
        run: "/exec/x",
    },
    Twice {
        name: "part",
        sources: ["a", "a/b"],
        write: "/data/b/x",
        run: "/exec/x",
    },
    Twice {
        name: "parent",
        sources: ["a/b", "a"],
        write: "/data/x",
        run: "/exec/b/x",
    },
    Twice {
        name: "file",
        sources: ["a", "a/f"],
        write: "/data/f",
        run: "/exec",
    },
    Twice {
        name: "file-written",
        sources: ["a/f", "a"],
        write: "/data",
        run: "/exec/f",
    },
    Twice {
        name: "symlink",
        sources: ["a", "l"],
        write: "/data/x",
        run: "/exec/x",
    },
    Twice {
        name: "hard-link",
        sources: ["a", "c/h"],
        write: "/data/f",
        run: "/exec",
    },
    Twice {
        name: "alias",
        sources: ["a", "alias"],
        write: "/data/b/x",
        run: "/exec/x",
    },
    Twice {
        name: "alias-below",
        sources: ["a", "c"],
        write: "/data/b/x",
        run: "/exec/alias/x",
    },
];

impl Twice {
    fn ends(&self, policy: &Policy, uid: u32) -> String {
        let tree = Tree::new();
        let mut bundle = Bundle::with_busybox(&format!("reach-twice-{}", self.name));
        let source = |i: usize| tree.path(self.sources[i]).display().to_string();
        bundle
            .config
            .bind(&source(0), "/data", &["rw"])
            .bind(&source(1), "/exec", &["ro"])
            .set("/process/user", json!({ "uid": uid, "gid": uid }));
        let script = format!(
            "printf '#!/bin/sh\\necho RAN-IT\\n' > {0} && busybox chmod 755 {0}; echo WROTE-$?; {1}",
            self.write, self.run
        );
        bundle.config.args(&["/bin/sh", "-c", &script]);
        let container = Container::new(bundle).policy(policy);
        let done = container.run();
        drop(container);
        format!("{} {}", done.out, done.err)
    }
}

/// One directory bound writable and read-only, as a whole, by part, by parent, under another name: what was written is not run (walls M1).
#[test]
fn what_is_written_here_is_not_run_there() {
    if !hardens() {
        return;
    }
    for twice in TWICE {
        for (policy, uid) in [
            (Policy::hardened(), 0),
            (Policy::level("restricted"), 1000),
            // Each layer alone.
            (Policy::hardened().observe("landlock"), 0),
        ] {
            let end = twice.ends(&policy, uid);
            assert!(
                end.contains("WROTE-0") && !end.contains("RAN-IT"),
                "{}: {end}",
                twice.name
            );
        }
        let off = Policy::hardened().observe("mounts").observe("landlock");
        let end = twice.ends(&off, 0);
        assert!(end.contains("RAN-IT"), "with the rule off, {}: {end}", twice.name);
    }
}

/// What is written to a layer shows in the overlay, and what is written to the overlay in its upper layer.
#[test]
fn what_is_written_to_a_layer_is_not_run_in_its_overlay() {
    if !hardens() {
        return;
    }
    for [data, exec] in [["lower", "merged"], ["merged", "upper"], ["merged/a", "upper"]] {
        let ends = |policy: &Policy| {
            let tree = Tree::new();
            let dirs = ["lower/a", "upper/a", "work"].map(|d| tree.path(d));
            for dir in &dirs {
                fs::create_dir_all(dir).unwrap();
            }
            let at = |d: &str| tree.path(d).display().to_string();
            let options = format!(
                "lowerdir={},upperdir={},workdir={}",
                at("lower"),
                at("upper"),
                at("work")
            );
            let overlay = HostMount::new(&["-t", "overlay", "-o", &options, "overlay"], &tree.path("merged"));
            let mut bundle = Bundle::with_busybox("reach-overlay");
            bundle
                .config
                .bind(&at(data), "/data", &["rw"])
                .bind(&at(exec), "/exec", &["ro"]);
            let below = if data == "merged/a" { "a/x" } else { "x" };
            let script = format!(
                "printf '#!/bin/sh\necho RAN-IT\n' > /data/x && busybox chmod 755 /data/x; echo WROTE-$?; /exec/{below}"
            );
            bundle.config.args(&["/bin/sh", "-c", &script]);
            let container = Container::new(bundle).policy(policy);
            let done = container.run();
            drop(container);
            drop(overlay);
            format!("{} {}", done.out, done.err)
        };
        let end = ends(&Policy::hardened());
        assert!(
            end.contains("WROTE-0") && !end.contains("RAN-IT"),
            "{data} {exec}: {end}"
        );
        let end = ends(&Policy::hardened().observe("mounts").observe("landlock"));
        assert!(end.contains("RAN-IT"), "with the rule off, {data} {exec}: {end}");
    }
}

/// A person's own `exec` excepts the read-only one at `hardened`.
#[test]
fn a_person_may_except_the_read_only_one() {
    if !hardens() {
        return;
    }
    let tree = Tree::new();
    let mut bundle = Bundle::with_busybox("reach-excepted");
    let a = tree.path("a").display().to_string();
    bundle
        .config
        .bind(&a, "/data", &["rw"])
        .bind(&a, "/exec", &["ro", "exec"]);
    bundle.config.args(&["/bin/sh", "-c", "/exec/f"]);
    let container = Container::new(bundle).policy(&Policy::hardened());
    assert!(container.run().ok().out.contains("ORIGINAL"));
    let strict = container.policy(&Policy::level("restricted"));
    strict.run().says(&["refused ["]);
}

/// No part of the image is writable from anywhere (walls M2): not the whole, not a part, not what holds it, not the layers of its overlay.
#[test]
fn the_image_is_not_written_by_a_volume() {
    if !hardens() {
        return;
    }
    let act = "create-file=/data/x";
    for part in [
        "bundle/rootfs",
        "bundle/rootfs/opt",
        "bundle",
        "alias",
        "upper",
        "lower",
    ] {
        let make = || {
            let mut bundle = Bundle::new("reach-image");
            let tree = Tree::new();
            let mut mounts = Vec::new();
            let source = match part {
                "alias" => {
                    let at = tree.path("image");
                    mounts.push(HostMount::bind(&bundle.rootfs().join("opt"), &at));
                    at
                }
                "upper" | "lower" => {
                    let dirs = ["upper", "work", "lower"].map(|d| tree.path(d));
                    for dir in &dirs {
                        fs::create_dir_all(dir).unwrap();
                    }
                    let options = format!(
                        "lowerdir={}:{},upperdir={},workdir={}",
                        dirs[2].display(),
                        bundle.rootfs().display(),
                        dirs[0].display(),
                        dirs[1].display()
                    );
                    let merged = tree.path("merged");
                    mounts.push(HostMount::new(&["-t", "overlay", "-o", &options, "overlay"], &merged));
                    bundle.config.set("/root/path", json!(merged));
                    tree.path(part)
                }
                part => bundle.dir.join(part),
            };
            bundle.config.bind(source.to_str().unwrap(), "/data", &["rw"]);
            (bundle, mounts, tree)
        };
        let (bundle, mounts, _tree) = make();
        let end = ends(bundle, mounts, &Policy::hardened(), act);
        let refused = end == "mounts.image" || end == "mounts.host-path";
        assert!(refused, "{part}: {end}");
        let (bundle, mounts, _tree) = make();
        let end = ends(bundle, mounts, &Policy::hardened().observe("mounts"), act);
        assert!(end.starts_with("ok"), "with the rule off, {part}: {end}");
    }
}

/// A mount of a sensitive tree under another name is that tree (walls2 M-8), also where it comes along.
#[test]
fn an_alias_of_etc_is_etc() {
    if !hardens() {
        return;
    }
    for (name, of, source) in [
        ("whole", "/etc", "alias-of-etc"),
        ("part", "/etc/ssl", "alias-of-etc"),
        ("in-it", "/etc", "alias-of-etc/ssl"),
        ("parent", "/", "alias-of-etc/etc"),
        ("root", "/", "alias-of-etc"),
        ("along", "/etc", "a"),
        ("var-lib", "/var/lib", "alias-of-etc/dpkg"),
    ] {
        let make = || {
            let tree = Tree::new();
            let at = tree.path(if name == "along" { "a/etc" } else { "alias-of-etc" });
            let mount = HostMount::bind(Path::new(of), &at);
            let mut bundle = Bundle::new(&format!("reach-alias-{name}"));
            bundle
                .config
                .bind(tree.path(source).to_str().unwrap(), "/data", &["rw"]);
            (bundle, vec![mount], tree)
        };
        let (bundle, mounts, _tree) = make();
        let end = ends(bundle, mounts, &Policy::hardened(), "list-dir=/data");
        assert!(
            ["mounts.host-path", "mounts.system-writable"].contains(&end.as_str()),
            "{name}: {end}"
        );
        let (bundle, mounts, _tree) = make();
        let end = ends(bundle, mounts, &Policy::hardened().observe("mounts"), "list-dir=/data");
        assert!(end.starts_with("ok"), "with the rule off, {name}: {end}");
    }
}

/// What gabion itself goes by is not a container's to write (walls2 M-3): policy, hooks' programs, bundle, wherever they are.
#[test]
fn what_gabion_believes_is_not_writable() {
    if !hardens() {
        return;
    }
    let judged = |source: fn(&Bundle, &Tree) -> std::path::PathBuf, options: &[&str]| {
        let tree = Tree::new();
        fs::create_dir_all(tree.path("hooks/below")).unwrap();
        fs::write(tree.path("hooks/hook"), "#!/bin/sh\n").unwrap();
        let mut bundle = Bundle::new("reach-believed");
        let source = source(&bundle, &tree);
        bundle.config.bind(source.to_str().unwrap(), "/data", options);
        let allow = format!("\n[hooks]\nallow = [\"{}\"]\n", tree.path("hooks/hook").display());
        bundle.config.acts(&["cwd"]);
        let container = Container::new(bundle).policy_text(&format!("level = \"hardened\"\n{allow}"));
        let end = Outcome::of(&container.run());
        drop(container);
        end
    };
    let bad: [fn(&Bundle, &Tree) -> std::path::PathBuf; 5] = [
        |b, _| b.dir.clone(),
        |b, _| b.dir.join("policy.toml"),
        |b, _| b.bundle().join("config.json"),
        |_, t| t.path("hooks"),
        |_, t| t.path("hooks/hook"),
    ];
    for (index, source) in bad.into_iter().enumerate() {
        if index == 1 {
            // It is written after this: something must be there to be bound.
            continue;
        }
        let end = judged(source, &["rw"]);
        assert!(
            matches!(&end, Outcome::Refused { code, .. } if code.starts_with("mounts.")),
            "{index}: {end:?}"
        );
    }
    // Its own program, where it is.
    let tree = Tree::new();
    let own = Runtime::gabion().program.clone();
    fs::create_dir_all(tree.path("sbin")).unwrap();
    fs::copy(own, tree.path("sbin/gabion")).unwrap();
    let runtime = Runtime {
        program: tree.path("sbin/gabion"),
        hardens: true,
    };
    let mut bundle = Bundle::new("reach-own");
    bundle
        .config
        .bind(tree.path("sbin").to_str().unwrap(), "/data", &["rw"])
        .acts(&["cwd"]);
    let container = Container::of(&runtime, bundle).policy(&Policy::hardened());
    container.run().says(&["refused [mounts.host-path]"]);
    drop(container);
    // A directory beside them, and the program only to be read, is anybody's.
    judged(|_, t| t.path("hooks/below"), &["rw"]).ok("cwd");
    judged(|_, t| t.path("hooks"), &["ro"]).ok("cwd");
}

/// A link of the image leads a default hole nowhere where no hole may be (walls L8).
#[test]
fn a_default_hole_is_not_led_to_etc() {
    if !hardens() {
        return;
    }
    for target in ["/etc", "/usr/bin", "/etc/below"] {
        let bundle = Bundle::new("reach-hole");
        let tmp = bundle.rootfs().join("tmp");
        fs::remove_dir(&tmp).unwrap();
        fs::create_dir_all(bundle.rootfs().join(&target[1..])).unwrap();
        symlink(target, &tmp).unwrap();
        let act = "create-file=/tmp/x";
        let end = ends(bundle, Vec::new(), &Policy::hardened(), act);
        assert!(end.starts_with("EROFS") || end.starts_with("EACCES"), "{target}: {end}");
    }
}
