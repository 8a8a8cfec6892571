//! `--root` is the caller's word: what lies there and is not gabion's stays.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use integration::command::run;
use integration::{Bundle, Container, Done, Policy, Runtime};

fn container(test: &str) -> Container {
    Container::of(Runtime::gabion(), Bundle::new(test)).policy(&Policy::permissive())
}

/// Every file below a directory with its text.
fn all(dir: &Path) -> Vec<(PathBuf, Option<String>)> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(path) = pending.pop() {
        if path.is_dir() && !path.is_symlink() {
            pending.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
        found.push((path.clone(), fs::read_to_string(&path).ok()));
    }
    found.sort();
    found
}

fn delete(container: &Container, root: &Path, id: &str, more: &[&str]) -> Done {
    let words = [&["--root", root.to_str().unwrap(), "delete"][..], more, &[id]].concat();
    let mut command = Command::new(&container.runtime.program);
    command.args(words);
    run(command, &container.bundle.dir)
}

#[test]
fn delete_leaves_what_gabion_did_not_make() {
    let container = container("delete-foreign");
    let etc = container.bundle.dir.join("etc");
    fs::create_dir_all(etc.join("ssh/keys")).unwrap();
    fs::write(etc.join("ssh/sshd_config"), "Port 22\n").unwrap();
    fs::write(etc.join("ssh/keys/host"), "secret\n").unwrap();
    // Empty ones, one that is private, another runtime's, and names that gabion uses, too.
    for name in ["sshd", "private", "runc", "other"] {
        fs::create_dir(etc.join(name)).unwrap();
    }
    fs::set_permissions(etc.join("private"), Permissions::from_mode(0o700)).unwrap();
    let runc = r#"{"id":"runc","init_process_pid":1,"config":{"version":1}}"#;
    fs::write(etc.join("runc/state.json"), runc).unwrap();
    fs::write(etc.join("other/pid"), "1\n").unwrap();
    // A directory of gabion's own with more in it.
    fs::create_dir(etc.join("mixed")).unwrap();
    fs::set_permissions(etc.join("mixed"), Permissions::from_mode(0o1700)).unwrap();
    fs::write(etc.join("mixed/config"), "kept\n").unwrap();
    let link = container.bundle.dir.join("link");
    symlink(&etc, &link).unwrap();
    let before = all(&etc);
    for root in [&etc, &link] {
        for id in ["ssh", "sshd", "private", "runc", "other", "mixed"] {
            for more in [&[][..], &["--force"]] {
                let done = delete(&container, root, id, more).fails_with(1);
                assert!(done.err.contains(id), "{done}");
            }
        }
        delete(&container, root, "absent", &["--force"]).ok();
        delete(&container, root, "absent", &[]).fails_with(1);
    }
    assert_eq!(all(&etc), before);
}

#[test]
fn its_own_goes_also_where_an_older_one_made_it() {
    for mode in [0o1700, 0o700] {
        for force in [&[][..], &["--force"]] {
            let container = container("delete-own");
            container.run_detached().ok();
            let dir = container.bundle.state().join(container.id());
            fs::set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
            if force.is_empty() {
                container.kill("KILL").ok();
                container.wait_status("stopped");
            }
            delete(&container, &container.bundle.state(), container.id(), force).ok();
            assert!(!dir.exists());
            container.nothing_left();
        }
    }
    // One whose maker died before it wrote anything.
    let container = container("delete-empty");
    let dir = container.bundle.state().join("begun");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o1700)).unwrap();
    delete(&container, &container.bundle.state(), "begun", &["--force"]).ok();
    assert!(!dir.exists());
}
