//! What hack/install keeps in mind, what it leaves to others, and what it makes for packages.

use super::{Place, hash, tree, verbs};
use integration::command::Done;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

const CONFIG: &str = "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n";
const POLICY: &str = "etc/gabion/policy.toml";

fn mode(place: &Place, path: &str, mode: u32) {
    fs::set_permissions(place.root.join(path), fs::Permissions::from_mode(mode)).unwrap();
}

fn refuses(done: Done, words: &[&str]) {
    done.fails_with(1).says(words).says(&["remedy"]);
}

#[test]
fn a_later_call_adds_to_the_options_and_says_which_keys_of_the_policy_change() {
    let place = Place::small("install-adds");
    place.config(CONFIG);
    place.below("install", &["--podman", "--prefix=/opt/gabion"]).ok();
    assert!(place.text(POLICY).contains("\ncri = \"none\"\n"));
    let dry = place.below("install", &["--containerd", "--dry-run"]).ok();
    let more = place.below("install", &["--containerd"]).ok();
    for done in [dry, more] {
        let lines = "replace  /etc/gabion/policy.toml\n               - cri = \"none\"\n               + cri = \"containerd\"\n";
        let squeezed = done.out.replace("replace        ", "replace  ");
        assert!(squeezed.contains(lines), "{done}");
        assert!(!done.out.contains('\u{1b}'), "no escapes without a terminal: {done}");
    }
    let all = tree(&[&place.root]);
    // Each way to forget one of them takes nothing away.
    for words in [&[][..], &["--podman"], &["--prefix", "/opt/gabion"]] {
        let again = place.below("install", words).ok();
        assert!(verbs(&again).iter().all(|verb| *verb == "unchanged"), "{again}");
        assert_eq!(tree(&[&place.root]), all, "{again}");
    }
    refuses(
        place.below("install", &["--prefix", "/elsewhere"]),
        &["--prefix /elsewhere", "installed in /opt/gabion"],
    );
    assert_eq!(tree(&[&place.root]), all);

    // A record of before had no options: the files say it.
    let record = place.root.join("var/lib/gabion/installed");
    let text = place.text("var/lib/gabion/installed");
    let old: Vec<&str> = text.lines().filter(|line| !line.starts_with("# option")).collect();
    fs::write(&record, old.join("\n") + "\n").unwrap();
    place.below("install", &[]).ok();
    assert_eq!(tree(&[&place.root]), all);
}

#[test]
fn without_its_containerd_an_upgrade_goes_on_and_pods_keep_their_names() {
    let place = Place::small("install-gone");
    place.config(CONFIG);
    place.below("install", &["--containerd"]).ok();
    let all = tree(&[&place.root]);
    let few = place.bundle.dir.join("few");
    fs::create_dir(&few).unwrap();
    for dir in ["/usr/bin", "/bin"] {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            if entry.file_name() != "containerd" {
                symlink(entry.path(), few.join(entry.file_name())).ok();
            }
        }
    }
    let path = few.to_str().unwrap();
    let upgrade = place.with_path("install", &[], path).ok();
    assert!(upgrade.out.contains("no containerd in PATH"), "{upgrade}");
    assert_eq!(tree(&[&place.root]), all);
    refuses(
        place.with_path("install", &["--containerd"], path),
        &["no containerd in PATH"],
    );
}

#[test]
fn what_it_tells_people_to_compare_with_is_there_until_it_is_of_no_use() {
    let place = Place::small("install-compare");
    let kept = place.root.join("var/lib/gabion/new/policy.toml");
    fs::create_dir_all(place.root.join("etc/gabion")).unwrap();
    fs::write(place.root.join(POLICY), "level = \"restricted\"\n").unwrap();
    place.below("install", &["--dry-run"]).ok();
    assert!(!kept.exists());
    let left = place.below("install", &[]).ok();
    let says = format!("compare it with {}", kept.display());
    assert!(left.out.contains(&says), "{left}");
    assert!(fs::read_to_string(&kept).unwrap().contains("level = \"hardened\""));
    // One that gabion would not believe is said to be one.
    mode(&place, POLICY, 0o666);
    let left = place.below("install", &[]).ok();
    assert!(left.out.contains("others than root can change it"), "{left}");

    fs::copy(&kept, place.root.join(POLICY)).unwrap();
    place.below("install", &[]).ok();
    assert!(!kept.exists());
    // Somebody's file in that place is no more ours than elsewhere.
    fs::write(place.root.join(POLICY), "lock = true\n").unwrap();
    fs::write(&kept, "mine").unwrap();
    let left = place.below("install", &[]).ok();
    assert!(
        left.out.contains("move /") && fs::read(&kept).unwrap() == b"mine",
        "{left}"
    );
}

#[test]
fn a_wrong_option_is_named_and_help_explains_each() {
    let place = Place::small("install-words");
    for (script, word, meant) in [
        ("install", "--podmann", "did you mean --podman?"),
        ("install", "--prefx=/x", "did you mean --prefix?"),
        ("install", "--imag", "did you mean --image?"),
        ("uninstall", "--forse", "did you mean --force?"),
        ("quickstart", "--hepl", "did you mean --help?"),
    ] {
        let done = place.script(script, &[word]).fails_with(2);
        done.says(&["unknown option", word.split('=').next().unwrap(), meant]);
    }
    place
        .script("install", &["--prefix"])
        .fails_with(2)
        .says(&["--prefix needs a path"]);
    for (script, words) in [
        (
            "install",
            &[
                "--containerd",
                "--podman",
                "--prefix",
                "--from",
                "--root",
                "--image",
                "--dry-run",
                "remembers",
            ][..],
        ),
        ("uninstall", &["--force", "--dry-run", "--image"]),
        ("quickstart", &["nginx"]),
    ] {
        let help = place.script(script, &["--help"]).ok();
        assert!(words.iter().all(|word| help.out.contains(word)), "{help}");
    }
}

/// Kills the script, by its own program `mv` or `rm`, before that does its `n`th work.
fn killed(place: &Place, script: &str, n: u32) {
    let bin = place.bundle.dir.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let count = place.bundle.dir.join("count");
    fs::write(&count, n.to_string()).unwrap();
    for name in ["mv", "rm"] {
        let text = format!(
            "#!/bin/sh\ncase \"$*\" in *{0}*) ;; *) exec /bin/{name} \"$@\" ;; esac\n\
             n=$(cat {1}); n=$((n - 1)); echo $n >{1}; [ $n -gt 0 ] || kill -KILL $PPID\nexec /bin/{name} \"$@\"\n",
            place.root.display(),
            count.display()
        );
        fs::write(bin.join(name), text).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let words: &[&str] = if script == "install" { &["--podman"] } else { &[] };
    let done = place.with_path(script, words, &path);
    assert_ne!(done.code, 0, "{n}: it was not killed: {done}");
    // Killed so, it could not remove its own directory.
    for entry in fs::read_dir("/tmp").unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        if name.starts_with("gabion-install.") && is_of_nobody(&entry.path()) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// Whether no script works there any more: others of the same name may run beside this test.
fn is_of_nobody(dir: &std::path::Path) -> bool {
    fs::read_to_string(dir.join("pid"))
        .is_ok_and(|pid| !std::path::Path::new(&format!("/proc/{}", pid.trim())).exists())
}

#[test]
fn killed_anywhere_and_called_again_it_ends_as_if_it_had_never_been_killed() {
    let place = Place::small("install-killed");
    let before = tree(&[&place.root]);
    place.below("install", &["--podman"]).ok();
    let whole = tree(&[&place.root]);
    place.below("uninstall", &[]).ok();
    assert_eq!(tree(&[&place.root]), before);

    // Each goes on where the one before was killed.
    for n in [1, 2, 4, 7] {
        killed(&place, "install", n);
    }
    place.below("install", &[]).ok();
    assert_eq!(tree(&[&place.root]), whole);
    // An upgrade: what stands there is the one or the other, and ours in any case.
    fs::write(place.bundle.dir.join("from/gabion"), "#!/bin/sh\n").unwrap();
    for n in [2, 4] {
        killed(&place, "install", n);
    }
    place.below("install", &[]).ok();
    assert_eq!(
        fs::read(place.root.join("usr/local/bin/gabion")).unwrap(),
        b"#!/bin/sh\n"
    );
    assert_eq!(tree(&[&place.root]).len(), whole.len());
    for n in [1, 3, 6] {
        killed(&place, "uninstall", n);
    }
    place.below("uninstall", &[]).ok();
    assert_eq!(tree(&[&place.root]), before);
}

#[test]
fn an_interrupted_upgrade_is_known_as_ours() {
    let place = Place::small("install-between");
    place.below("install", &["--podman"]).ok();
    fs::write(place.bundle.dir.join("from/gabion"), "#!/bin/sh\n").unwrap();
    // The record is written (its temporary is removed, and renamed), the program not yet renamed.
    killed(&place, "install", 5);
    let record = place.text("var/lib/gabion/installed");
    assert!(record.contains("# was "), "{record}");
    place.below("install", &[]).ok();
    assert_eq!(
        fs::read(place.root.join("usr/local/bin/gabion")).unwrap(),
        b"#!/bin/sh\n"
    );
    assert!(!place.text("var/lib/gabion/installed").contains("# was "));
}

#[test]
fn owner_and_mode_are_mended_and_what_is_in_the_way_is_named() {
    let place = Place::small("install-ways");
    // Whatever the caller's files are like, these are nobody else's to write to: the next run believes the record.
    let mut open = std::process::Command::new("sh");
    open.args(["-c", "umask 0; exec \"$0\" \"$@\""]);
    open.arg(std::path::Path::new(super::HACK).join("install"));
    open.arg("--from").arg(place.bundle.dir.join("from"));
    open.arg("--image").arg(&place.root);
    integration::command::run(open, &place.bundle.dir).ok();
    place.below("install", &[]).ok();
    mode(&place, POLICY, 0o666);
    chown(place.root.join("usr/local/bin/gabion"), Some(1234), None).unwrap();
    let mended = place.below("install", &[]).ok();
    assert_eq!(
        verbs(&mended).iter().filter(|verb| **verb == "mend").count(),
        2,
        "{mended}"
    );
    assert_eq!(
        fs::metadata(place.root.join(POLICY)).unwrap().permissions().mode() & 0o7777,
        0o644
    );

    // A record that others may have written is no list of what root may remove.
    let record = "var/lib/gabion/installed";
    mode(&place, record, 0o666);
    for script in ["install", "uninstall"] {
        refuses(place.below(script, &[]), &["can be changed by others than root"]);
    }
    mode(&place, record, 0o644);
    let moved = place.root.join("var/lib/gabion/moved");
    fs::rename(place.root.join(record), &moved).unwrap();
    symlink(&moved, place.root.join(record)).unwrap();
    refuses(place.below("uninstall", &[]), &["not a regular file"]);
    fs::rename(&moved, place.root.join(record)).unwrap();
    place.below("uninstall", &[]).ok();
}

#[test]
fn no_link_and_no_pipe_leads_what_root_writes_astray() {
    let place = Place::small("install-links");
    let outside = place.bundle.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir_all(place.root.join("etc")).unwrap();
    symlink(&outside, place.root.join("etc/gabion")).unwrap();
    refuses(place.below("install", &[]), &["leads out of"]);
    assert!(fs::read_dir(&outside).unwrap().next().is_none());
    fs::remove_file(place.root.join("etc/gabion")).unwrap();

    // Somebody else's directory, and one that everybody may write to.
    fs::create_dir(place.root.join("etc/gabion")).unwrap();
    chown(place.root.join("etc/gabion"), Some(1234), None).unwrap();
    refuses(place.below("install", &[]), &["belongs to uid 1234"]);
    chown(place.root.join("etc/gabion"), Some(0), None).unwrap();
    mode(&place, "etc/gabion", 0o777);
    refuses(place.below("install", &[]), &["everybody may write"]);
    mode(&place, "etc/gabion", 0o755);
    fs::write(place.root.join("usr"), "").unwrap();
    refuses(place.below("install", &[]), &["is no directory"]);
    fs::remove_file(place.root.join("usr")).unwrap();
    assert!(!place.root.join("var/lib/gabion").exists(), "nothing is written before");

    // In a file's place: a pipe is not opened, a link not written through, nor what lies at a temporary name.
    nix::unistd::mkfifo(&place.root.join(POLICY), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let target = outside.join("target");
    fs::write(&target, "theirs").unwrap();
    fs::create_dir_all(place.root.join("usr/local/bin")).unwrap();
    symlink(&target, place.root.join("usr/local/bin/gabion.gabion-new")).unwrap();
    let left = place.below("install", &[]).ok();
    assert!(left.out.contains("left           /etc/gabion/policy.toml"), "{left}");
    assert_eq!(fs::read(&target).unwrap(), b"theirs");
    let installed = fs::symlink_metadata(place.root.join("usr/local/bin/gabion")).unwrap();
    assert!(installed.is_file());
    // As a program of ours it may be a link to a directory since: the other file there is not replaced, nor removed.
    let shim = place.root.join("usr/local/bin/containerd-shim-gabion-v2");
    fs::remove_file(&shim).unwrap();
    symlink(&outside, &shim).unwrap();
    refuses(place.below("install", &[]), &["is not what hack/install wrote"]);
    place.below("uninstall", &[]).ok();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn a_package_s_tree_has_gabion_s_own_files_whole_and_needs_no_tools() {
    let place = Place::small("install-package");
    let package = place.bundle.dir.join("package");
    fs::create_dir(&package).unwrap();
    let words = [
        "--root",
        package.to_str().unwrap(),
        "--containerd",
        "--podman",
        "--prefix",
        "/usr",
    ];
    let words: Vec<&str> = words.to_vec();
    let install = || {
        let mut command = std::process::Command::new(std::path::Path::new(super::HACK).join("install"));
        command.arg("--from").arg(place.bundle.dir.join("from")).args(&words);
        // Not where containerd and podman are.
        let few = place.bundle.dir.join("few");
        fs::create_dir_all(&few).unwrap();
        for tool in [
            "bash",
            "awk",
            "basename",
            "cat",
            "chmod",
            "chown",
            "cmp",
            "cut",
            "diff",
            "dirname",
            "env",
            "grep",
            "install",
            "mktemp",
            "mv",
            "realpath",
            "rm",
            "sed",
            "sha256sum",
            "sort",
            "stat",
            "uname",
        ] {
            symlink(format!("/usr/bin/{tool}"), few.join(tool)).ok();
        }
        command.env("PATH", few);
        integration::command::Running::start(command, &place.bundle.dir).wait(integration::command::limit(60))
    };
    install().ok();
    let files: Vec<String> = tree(&[&package])
        .into_iter()
        .filter(|(_, content)| content.is_some())
        .map(|(path, _)| path.strip_prefix(&package).unwrap().display().to_string())
        .collect();
    let mut expected = vec![
        "etc/apparmor.d/gabion-default",
        "etc/containers/containers.conf.d/gabion.conf",
        "etc/gabion/containerd-restricted.toml",
        "etc/gabion/containerd.toml",
        POLICY,
        "usr/bin/containerd-shim-gabion-v2",
        "usr/bin/gabion",
        "usr/share/gabion/containerd-handlers.toml",
    ];
    if integration::binaries::has_ctl() {
        expected.insert(7, "usr/bin/gabionctl");
    }
    assert_eq!(files, expected);
    let policy = fs::read_to_string(package.join(POLICY)).unwrap();
    assert!(policy.contains("\ncri = \"containerd\"\n"), "{policy}");
    let before = tree(&[&package]);
    install().ok();
    assert_eq!(tree(&[&package]), before, "a second run changes nothing");
    fs::write(package.join(POLICY), "lock = true\n").unwrap();
    refuses(install(), &["stands there already, and is another"]);
    place
        .script("uninstall", &["--root", package.to_str().unwrap()])
        .fails_with(2)
        .says(&["a package's tree"]);
}

#[test]
fn uninstall_names_what_others_wrote_because_of_gabion() {
    let place = Place::small("install-rest");
    let handler = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.gabion]\n";
    place.config(CONFIG);
    place.below("install", &["--containerd"]).ok();
    place.config(&format!("{CONFIG}# gabion is only spoken of\n{handler}"));
    symlink("gabion", place.root.join("usr/local/bin/gabion-ci")).unwrap();
    for (path, text) in [
        ("etc/gabion/runtimes/ci.toml", "lock = true\n"),
        ("etc/docker/daemon.json", "{ \"default-runtime\": \"gabion\" }\n"),
        ("var/log/gabion/audit.jsonl", "{}\n"),
    ] {
        let path = place.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let busy = place.root.join("run/gabion/web");
    fs::create_dir_all(&busy).unwrap();
    fs::write(busy.join("state.json"), "{}").unwrap();
    // With containers a dry run lists all the same.
    let dry = place.below("uninstall", &["--dry-run"]).ok();
    assert!(dry.out.contains("would stop") && dry.out.contains("web"), "{dry}");
    fs::remove_dir_all(&busy).unwrap();
    let gone = place.below("uninstall", &[]).ok();
    for done in [&dry, &gone] {
        for part in [
            "/etc/containerd/config.toml:4",
            "RuntimeClasses gabion, gabion-restricted",
            "/etc/docker/daemon.json:1",
            "/usr/local/bin/gabion-ci",
            "/etc/gabion/runtimes",
            "/var/log/gabion",
        ] {
            assert!(done.out.contains(part), "{part}: {done}");
        }
        assert!(!done.out.contains("config.toml:3"), "{done}");
    }
    let config = fs::read(place.root.join("etc/containerd/config.toml")).unwrap();
    assert_eq!(
        hash(&config),
        hash(format!("{CONFIG}# gabion is only spoken of\n{handler}").as_bytes())
    );
}
