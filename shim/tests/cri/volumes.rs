//! What is mounted into a pod's containers, laid out as the kubelet and containerd do.

use std::fs;

use nix::mount::{MsFlags, mount};
use serde_json::json;

use super::kubelet::Kubelet;
use super::pods::Config;

#[test]
fn volumes_as_the_kubelet_lays_them_out() {
    let kubelet = Kubelet::start("vols");
    let pod = kubelet.pod("default", "app");
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let config = kubelet
        .mounts(&pod, Config::sleeper("main"))
        .security("readonly_rootfs", json!(true));
    let id = kubelet.container(&pod, &sandbox, &config).unwrap();
    kubelet.output(&id, &["sh", "-c", "echo kept > /data/file"]);
    let data = kubelet.pod_dir(&pod).join("volumes/kubernetes.io~empty-dir/data");
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "kept\n");
    // A place to write is none to run from, by mount and by Landlock.
    kubelet.output(&id, &["cp", "/bin/busybox", "/data/true"]);
    assert!(!kubelet.succeeds(&id, &["/data/true"]));
    let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    assert_eq!(kubelet.output(&id, &["cat", token]), "secret\n");
    assert!(!kubelet.succeeds(&id, &["sh", "-c", &format!("echo x > {token}")]));
    assert_eq!(kubelet.output(&id, &["cat", "/etc/hosts"]), "127.0.0.1 localhost\n");
    kubelet.output(&id, &["sh", "-c", "echo bye > /dev/termination-log"]);
    assert_eq!(
        fs::read_to_string(kubelet.pod_dir(&pod).join("containers/main/0")).unwrap(),
        "bye\n"
    );
    for path in ["/file", "/etc/file", "/usr"] {
        assert!(!kubelet.succeeds(&id, &["touch", path]), "{path}");
    }
    // With readOnlyRootFilesystem the manifest asks for no other place; without, /tmp is one.
    assert!(!kubelet.succeeds(&id, &["touch", "/tmp/file"]));
    let other = kubelet
        .container(&pod, &sandbox, &kubelet.mounts(&pod, Config::sleeper("two")))
        .unwrap();
    kubelet.output(&other, &["touch", "/tmp/file"]);
    assert!(!kubelet.succeeds(&other, &["touch", "/file"]));
    assert_eq!(kubelet.output(&other, &["cat", "/data/file"]), "kept\n");
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

/// The options of the mount at `target` in a container, as the kernel has them.
fn options(kubelet: &Kubelet, id: &str, target: &str) -> String {
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", kubelet.pid(id))).unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(4) == Some(target));
    line.unwrap_or_else(|| panic!("nothing at {target}: {mounts}"))
        .split(' ')
        .nth(5)
        .unwrap()
        .to_owned()
}

#[test]
fn memory_sub_paths_and_an_images_own_volume() {
    let kubelet = Kubelet::start("kinds");
    let pod = kubelet.pod("default", "app");
    let dir = kubelet.pod_dir(&pod);
    let (memory, sub) = (
        dir.join("volumes/kubernetes.io~empty-dir/memory"),
        dir.join("volume-subpaths/data/main/0"),
    );
    for made in [&memory, &sub] {
        fs::create_dir_all(made).unwrap();
    }
    // emptyDir with medium: Memory is a file system of its own; a subPath is bound below the pod, so that no symlink counts.
    mount(Some("tmpfs"), &memory, Some("tmpfs"), MsFlags::empty(), Some("size=4m")).unwrap();
    let part = dir.join("volumes/kubernetes.io~empty-dir/data/part");
    fs::create_dir(&part).unwrap();
    mount(Some(&part), &sub, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let config = Config::sleeper("main")
        .mount(&memory, "/memory", false)
        .mount(&sub, "/part", false);
    let id = kubelet.container(&pod, &sandbox, &config).unwrap();
    // containerd makes the last one, below its own directory: what the image declares as VOLUME.
    for target in ["/memory", "/part", "/volume"] {
        kubelet.output(
            &id,
            &[
                "sh",
                "-c",
                &format!("cp /bin/busybox {target}/true && chmod 755 {target}/true"),
            ],
        );
        assert!(!kubelet.succeeds(&id, &[&format!("{target}/true")]), "{target}");
        let options = options(&kubelet, &id, target);
        for option in ["nosuid", "nodev", "noexec"] {
            assert!(options.split(',').any(|one| one == option), "{target}: {options}");
        }
    }
    assert!(!kubelet.succeeds(&id, &["dd", "if=/dev/zero", "of=/memory/big", "bs=1M", "count=8"]));
    assert!(part.join("true").exists());
    kubelet.remove_pod(&sandbox);
    for mounted in [&memory, &sub] {
        nix::mount::umount(mounted).unwrap();
    }
    kubelet.assert_clean();
}

/// The kubelet binds a hostPath's subPath where it binds an emptyDir's: below the pod's own directory.
#[test]
fn a_sub_path_of_a_host_path_is_the_hosts() {
    let kubelet = Kubelet::start("hostsub");
    let pod = kubelet.pod("default", "app");
    let dir = kubelet.pod_dir(&pod);
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let elsewhere = kubelet.node.dir.join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    // One is a file system whole, one a part of a guarded place, one nothing that gabion knows of.
    let hosts: [std::path::PathBuf; 4] = ["/run".into(), "/etc/ssl".into(), "/usr".into(), elsewhere];
    for (number, host) in hosts.iter().enumerate() {
        let sub = dir.join(format!("volume-subpaths/host/main/{number}"));
        fs::create_dir_all(&sub).unwrap();
        mount(Some(host), &sub, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let tried = [true, false].map(|readonly| {
            let config = Config::sleeper(&format!("try{number}{readonly}"));
            kubelet.container(&pod, &sandbox, &config.mount(&sub, "/stolen", readonly))
        });
        nix::mount::umount(&sub).unwrap();
        for result in tried {
            let status = result.expect_err(&host.display().to_string());
            assert!(
                status.message.contains("gabion: refused [mounts."),
                "{}: {status:?}",
                host.display()
            );
        }
    }
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}
