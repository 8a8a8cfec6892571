//! A state that is not what was written: `delete --force` clears away what it can tell to be the container's, and nothing else.

use super::container;
use integration::{Bundle, Container, Policy};
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What happens to a file.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 9] = [
    ("truncated", |file| {
        let text = fs::read(file).unwrap();
        fs::write(file, &text[..text.len() / 2]).unwrap();
    }),
    ("empty", |file| fs::write(file, "").unwrap()),
    ("huge", |file| {
        File::options()
            .write(true)
            .open(file)
            .unwrap()
            .set_len(65 << 20)
            .unwrap();
    }),
    ("deep", |file| fs::write(file, "[".repeat(1 << 20)).unwrap()),
    ("of another version", |file| {
        let text = fs::read_to_string(file).unwrap();
        fs::write(file, text.replacen("\"version\":1", "\"version\":77", 1)).unwrap();
    }),
    ("of another container", |file| {
        let mut state: serde_json::Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        state["id"] = "another".into();
        fs::write(file, state.to_string()).unwrap();
    }),
    ("a pipe", |file| {
        fs::remove_file(file).unwrap();
        nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }),
    ("endless", |file| {
        fs::remove_file(file).unwrap();
        symlink("/dev/zero", file).unwrap();
    }),
    ("a directory", |file| {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
    }),
];

fn directory(container: &Container) -> PathBuf {
    container.bundle.state().join(container.id())
}

#[test]
fn a_damaged_state_does_not_stop_delete_force() {
    for (what, damage) in DAMAGES {
        let container = container("damaged-state");
        container.run_detached().ok();
        damage(&directory(&container).join("state.json"));
        // No other command guesses.
        for words in [
            &["delete", container.id()][..],
            &["state", container.id()],
            &["kill", container.id(), "KILL"],
        ] {
            let done = container.op(words).fails_with(1);
            assert!(done.err.contains("state.json"), "{what}: {done}");
        }
        let listed = container.op(&["list", "-q"]).ok();
        assert!(
            listed.out.is_empty() && listed.err.contains("state.json"),
            "{what}: {listed}"
        );
        let done = container.op(&["delete", "--force", container.id()]).ok();
        assert!(done.err.contains("nothing of it is left"), "{what}: {done}");
        container.nothing_left();
    }
}

/// Neither a program nor anything else runs of a container whose state cannot be read.
fn starts_nothing(container: &Container, damage: impl Fn(&Path)) {
    container.create().ok();
    let pid = container.pid();
    damage(&directory(container).join("state.json"));
    let done = container.start().fails_with(1);
    assert!(done.err.contains("state.json"), "{done}");
    let program = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(program.contains("create"), "it runs {program:?}");
    container.op(&["delete", "--force", container.id()]).ok();
    container.nothing_left();
}

/// What comes after a start stands in the state: without it nothing starts.
#[test]
fn a_damaged_state_starts_nothing() {
    starts_nothing(&container("damaged-start"), |file| fs::write(file, "{").unwrap());
}

/// A hook after the start gets to see what the start itself need not read.
#[test]
fn what_a_hook_after_the_start_needs_is_read_before_it() {
    let mut bundle = Bundle::new("damaged-hook");
    bundle
        .config
        .set("/hooks", json!({"poststart": [{"path": "/bin/true"}]}));
    let container = Container::new(bundle).policy(&Policy::permissive());
    starts_nothing(&container, |file| {
        let mut state: serde_json::Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        state["hardened"]["spec"]["process"]["args"] = 5.into();
        fs::write(file, state.to_string()).unwrap();
    });
}

/// A frozen process dies when it is thawed (v1).
#[test]
fn what_is_paused_goes_without_its_state() {
    let paused = container("damaged-paused");
    paused.run_detached().ok();
    paused.op(&["pause", paused.id()]).ok();
    fs::write(directory(&paused).join("state.json"), "{").unwrap();
    paused.op(&["delete", "--force", paused.id()]).ok();
    paused.nothing_left();
}

/// Both files: nothing tells what was its own, and that is said.
#[test]
fn where_nothing_is_known_the_directory_goes() {
    for pid in ["", "1", "-1 5\n{}\n", "1 1\n", "1 1\n{\"path\":\"/\"}\n"] {
        let container = container("damaged-both");
        container.create().ok();
        container.op(&["delete", "--force", container.id()]).ok();
        // As create leaves it.
        fs::create_dir_all(directory(&container)).unwrap();
        fs::set_permissions(directory(&container), fs::Permissions::from_mode(0o1700)).unwrap();
        fs::write(directory(&container).join("state.json"), "{").unwrap();
        fs::write(directory(&container).join("pid"), pid).unwrap();
        let done = container.op(&["delete", "--force", container.id()]).ok();
        assert!(done.err.contains("was let be"), "{pid:?}: {done}");
        assert!(!directory(&container).exists());
    }
}

/// A copy names another container's process and cgroup.
#[test]
fn a_copied_state_ends_nobody() {
    let original = container("copied");
    original.run_detached().ok();
    let copy = format!("{}-copy", original.id());
    let to = original.bundle.state().join(&copy);
    fs::create_dir(&to).unwrap();
    for file in ["state.json", "pid"] {
        fs::copy(directory(&original).join(file), to.join(file)).unwrap();
    }
    let done = original.op(&["delete", "--force", &copy]).ok();
    assert!(done.err.contains("another container"), "{done}");
    assert!(!to.exists());
    assert_eq!(original.status(), "running");
}

/// Whoever could write there could have named any process and any cgroup of the host.
#[test]
fn what_others_could_write_names_nobody() {
    let container = container("wrong-owner");
    container.run_detached().ok();
    let mut victim = Command::new("sleep").arg("300").stdin(Stdio::null()).spawn().unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", victim.id())).unwrap();
    let start = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().to_owned();
    // As good as a real one in all but the owner: of the same form, and of its own id.
    let planted = format!("{}-planted", container.id());
    let dir = container.bundle.state().join(&planted);
    fs::create_dir(&dir).unwrap();
    let real = fs::read_to_string(directory(&container).join("pid")).unwrap();
    let cgroup = real.split_once('\n').unwrap().1;
    let cgroup = cgroup.replace(
        &format!("\"name\":\"{}\"", container.id()),
        &format!("\"name\":\"{planted}\""),
    );
    assert!(cgroup.contains(&planted), "{cgroup}");
    fs::write(dir.join("state.json"), "{").unwrap();
    fs::write(dir.join("pid"), format!("{} {start}\n{cgroup}", victim.id())).unwrap();
    chown(&dir, Some(65534), Some(65534)).unwrap();
    container.op(&["state", &planted]).fails_with(1);
    let done = container.op(&["delete", "--force", &planted]).fails_with(1);
    assert!(done.err.contains("belongs to uid 65534"), "{done}");
    assert!(dir.join("pid").exists(), "what is another's was removed");
    fs::remove_dir_all(&dir).unwrap();
    assert!(matches!(victim.try_wait(), Ok(None)), "it was killed");
    assert_eq!(container.status(), "running");
    // And the same of one's own is believed: the test would see a kill.
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("state.json"), "{").unwrap();
    let nowhere = cgroup
        .replace(container.id(), &planted)
        .replace("-planted-planted", "-planted");
    fs::write(dir.join("pid"), format!("{} {start}\n{nowhere}", victim.id())).unwrap();
    container.op(&["delete", "--force", &planted]).ok();
    assert!(!victim.wait().unwrap().success());
    assert_eq!(container.status(), "running");
}
