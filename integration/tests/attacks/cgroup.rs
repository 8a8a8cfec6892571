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
