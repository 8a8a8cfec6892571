//! A cgroup v1 hierarchy of one's own, with its release_agent, by way of a user namespace (CVE-2022-0492).

use integration::{Bundle, Container, Policy, Runtime};

#[test]
fn no_cgroup_hierarchy_is_mounted_from_a_user_namespace() {
    let tried = |name: &str, policy: &Policy| {
        let mut container = Container::new(Bundle::new(name)).policy(policy);
        container.acts(&["mount-cgroup"])
    };
    if !std::path::Path::new("/sys/fs/cgroup/pids").exists() {
        integration::left_out("no cgroup v1 here, and no release_agent in v2");
        return;
    }
    tried("attack-cgroup-open", &Policy::permissive()).ok("mount-cgroup");
    if Runtime::under_test().hardens {
        let shut = tried("attack-cgroup-shut", &Policy::hardened());
        let answer = shut.answer("mount-cgroup");
        assert!(answer.starts_with("EPERM"), "{answer}");
    }
}

/// A container in this cgroup, with the probe asleep in it.
fn at(name: &str, path: impl Fn(&Bundle) -> String, act: &str) -> Container {
    let mut bundle = Bundle::new(name);
    let path = path(&bundle);
    bundle.config.set("/linux/cgroupsPath", path.into()).acts(&[act]);
    Container::new(bundle).policy(&Policy::hardened())
}

fn taken(container: &Container) {
    let refused = container.run_detached().fails_with(1);
    assert!(refused.err.contains("refused [cgroup.taken]"), "{refused}");
}

/// Whoever ends a container ends all that is in its cgroup: no other one is inside (walls M3).
#[test]
fn no_container_is_inside_of_anothers_cgroup() {
    if !Runtime::under_test().hardens {
        return;
    }
    let outer = at("cgroup-outer", |b| format!("/{}", b.name), "sleep");
    outer.run_detached().ok();
    let name = outer.id().to_owned();
    for path in [
        format!("/{name}/inner"),
        format!("{name}/./inner"),
        format!("//{name}/a/b/c"),
    ] {
        taken(&at("cgroup-inner", |_| path.clone(), "sleep"));
    }
    // With the rule off it runs there, and goes with the other one.
    let inner = at("cgroup-inner", |_| format!("/{name}/inner"), "sleep").policy(&Policy::hardened().observe("cgroup"));
    inner.run_detached().ok();
    outer.op(&["delete", "--force", outer.id()]).ok();
    inner.wait_status("stopped");
}

/// A container that has ended has nobody in its cgroup, and is known by its mark, in whatever root its state is.
#[test]
fn an_ended_containers_cgroup_is_still_its_own() {
    if !Runtime::under_test().hardens || integration::cgroup::by_systemd() {
        return;
    }
    let ended = at("cgroup-ended", |b| format!("/{}/a", b.name), "cwd");
    ended.run_detached().ok();
    ended.wait_status("stopped");
    let top = ended.id().to_owned();
    for path in [format!("/{top}"), format!("/{top}/a"), format!("/{top}/a/b")] {
        taken(&at("cgroup-near", |_| path.clone(), "sleep"));
    }
    let beside = at("cgroup-beside", |_| format!("/{top}/b"), "sleep");
    beside.run_detached().ok();
    drop(beside);
    ended.delete().ok();
    // Once it is deleted the place is free; above it, too.
    at("cgroup-free", |_| format!("/{top}/a"), "sleep").run_detached().ok();
    at("cgroup-free", |_| format!("/{top}"), "sleep").run_detached().ok();
}

/// A service's or another runtime's cgroup: processes tell.
#[test]
fn no_container_is_inside_of_a_strangers_cgroup() {
    if !Runtime::under_test().hardens {
        return;
    }
    let bundle = Bundle::new("cgroup-stranger");
    let base = if integration::unified() {
        "/sys/fs/cgroup"
    } else {
        "/sys/fs/cgroup/pids"
    };
    let service = std::path::Path::new(base).join(&bundle.name);
    std::fs::create_dir(&service).unwrap();
    let mut stranger = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    std::fs::write(service.join("cgroup.procs"), stranger.id().to_string()).unwrap();
    let inside = at("cgroup-inside", |_| format!("/{}/x", bundle.name), "sleep");
    let done = inside.run_detached();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    // Nobody is there any more.
    let after = inside.run_detached();
    drop(inside);
    // In the other hierarchies it was made for the container, above its own.
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
        let above = hierarchy.unwrap().path().join(&bundle.name);
        assert!(
            !above.exists() || std::fs::remove_dir(&above).is_ok(),
            "{}",
            above.display()
        );
    }
    if service.exists() {
        std::fs::remove_dir(&service).unwrap();
    }
    assert!(done.err.contains("refused [cgroup.taken]"), "{done}");
    after.ok();
}
