//! The cache believes nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;

use super::*;

/// A directory of this test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gabion-seccomp-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn cache(&self) -> PathBuf {
        self.0.join("cache")
    }

    /// The one entry.
    fn entry(&self) -> PathBuf {
        let mut entries = fs::read_dir(self.cache()).unwrap();
        let entry = entries.next().unwrap().unwrap().path();
        assert!(entries.next().is_none());
        entry
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A program that allows everything, with its own hash right, as one who can write there would put it.
fn planted(honest: &[u8]) -> Vec<u8> {
    use sha2::Digest;
    let mut body = honest[40..72].to_vec();
    body.extend([0_u8; 8]);
    body.extend(8_u32.to_le_bytes());
    body.extend([6, 0, 0, 0, 0, 0, 0xff, 0x7f]);
    [&honest[..8], &sha2::Sha256::digest(&body)[..], &body].concat()
}

#[test]
fn made_private_and_used_again() {
    let scratch = Scratch::new("again");
    let fresh = load_or_compile(&scratch.cache(), &podman()).unwrap();
    assert_eq!(fresh, compile(&podman()).unwrap());
    let (dir, file) = (
        fs::metadata(scratch.cache()).unwrap(),
        fs::metadata(scratch.entry()).unwrap(),
    );
    assert_eq!((dir.mode() & 0o7777, file.mode() & 0o7777), (0o700, 0o600));
    // That it is used: a program of the owner's, whole and with the right key, is what comes back.
    let other = planted(&fs::read(scratch.entry()).unwrap());
    fs::write(scratch.entry(), other).unwrap();
    assert_eq!(
        load_or_compile(&scratch.cache(), &podman())
            .unwrap()
            .program
            .instructions(),
        1
    );
}

#[test]
fn key_is_the_content() {
    let scratch = Scratch::new("key");
    let rule = |listener: &str, call: &str| {
        profile(&format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"{listener}","syscalls":[{{"names":["{call}"],"action":"SCMP_ACT_NOTIFY"}}]}}"#
        ))
    };
    let first = load_or_compile(&scratch.cache(), &rule("/a", "mkdir")).unwrap();
    assert!(first.listener);
    assert_eq!(load_or_compile(&scratch.cache(), &rule("/b", "mkdir")).unwrap(), first);
    scratch.entry();
    assert_ne!(load_or_compile(&scratch.cache(), &rule("/a", "rmdir")).unwrap(), first);
    assert_eq!(fs::read_dir(scratch.cache()).unwrap().count(), 2);
    let unusable = load_or_compile(&scratch.cache(), &rule("", "mkdir"));
    assert_eq!(
        unusable,
        Err(SeccompError::NoListenerPath),
        "a cached program does not excuse a profile"
    );
}

#[test]
fn bad_files_are_replaced_and_never_used() {
    let scratch = Scratch::new("files");
    let right = load_or_compile(&scratch.cache(), &podman()).unwrap();
    let (entry, honest) = (scratch.entry(), fs::read(scratch.entry()).unwrap());
    let put = |bytes: &[u8]| {
        drop(fs::remove_file(&entry));
        fs::write(&entry, bytes).unwrap();
        fs::set_permissions(&entry, Permissions::from_mode(0o600)).unwrap();
    };
    let healed = |what: &str| {
        assert_eq!(load_or_compile(&scratch.cache(), &podman()).unwrap(), right, "{what}");
        assert_eq!(fs::read(&entry).unwrap(), honest, "{what}: replaced");
        assert_eq!(
            fs::symlink_metadata(&entry).unwrap().mode(),
            0o100_600,
            "{what}: replaced"
        );
    };
    let evil = planted(&honest);
    for at in [0, 8, 40, 80, honest.len() - 1] {
        let mut broken = honest.clone();
        broken[at] ^= 1;
        put(&broken);
        healed("a flipped bit");
    }
    put(&honest[..honest.len() / 2]);
    healed("half a file");
    put(&[]);
    healed("an empty file");
    put(&vec![0; 1 << 20]);
    healed("a huge file");
    put(&evil);
    fs::set_permissions(&entry, Permissions::from_mode(0o620)).unwrap();
    healed("a file that the group can write");
    put(&evil);
    fs::hard_link(&entry, scratch.0.join("link")).unwrap();
    healed("a file with another name");
    fs::remove_file(&entry).unwrap();
    fs::write(scratch.0.join("evil"), &evil).unwrap();
    fs::set_permissions(scratch.0.join("evil"), Permissions::from_mode(0o600)).unwrap();
    symlink(scratch.0.join("evil"), &entry).unwrap();
    healed("a symlink");
    nix::unistd::mkfifo(&scratch.0.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::rename(scratch.0.join("fifo"), &entry).unwrap();
    healed("a FIFO");
    if nix::unistd::geteuid().is_root() {
        put(&evil);
        chown(&entry, Some(1), None).unwrap();
        healed("another's file");
    }
}

#[test]
fn directories_of_others_are_refused() {
    let scratch = Scratch::new("dirs");
    let fault = || match load_or_compile(&scratch.cache(), &podman()) {
        Err(SeccompError::UnsafeCache { fault, .. }) => fault,
        other => panic!("{other:?}"),
    };
    fs::create_dir(scratch.cache()).unwrap();
    for mode in [0o777, 0o1777, 0o770, 0o710, 0o701] {
        fs::set_permissions(scratch.cache(), Permissions::from_mode(mode)).unwrap();
        assert_eq!(fault(), CacheFault::Mode(mode));
    }
    fs::set_permissions(scratch.cache(), Permissions::from_mode(0o700)).unwrap();
    if nix::unistd::geteuid().is_root() {
        chown(scratch.cache(), Some(1), None).unwrap();
        assert_eq!(fault(), CacheFault::Owner(1));
        chown(scratch.cache(), Some(0), None).unwrap();
    }
    fs::rename(scratch.cache(), scratch.0.join("real")).unwrap();
    symlink(scratch.0.join("real"), scratch.cache()).unwrap();
    assert_eq!(fault(), CacheFault::Symlink);
    fs::remove_file(scratch.cache()).unwrap();
    fs::write(scratch.cache(), "").unwrap();
    assert_eq!(fault(), CacheFault::NotADirectory);
    let nowhere = load_or_compile(&scratch.0.join("a/b"), &podman());
    assert!(
        matches!(
            nowhere,
            Err(SeccompError::Io {
                step: "make",
                errno: Errno::ENOENT,
                ..
            })
        ),
        "{nowhere:?}"
    );
}

#[test]
fn bounded() {
    let scratch = Scratch::new("bounded");
    for errno in 1..200 {
        let one = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":{errno}}}]}}"#
        );
        load_or_compile(&scratch.cache(), &profile(&one)).unwrap();
    }
    assert!(fs::read_dir(scratch.cache()).unwrap().count() <= 128);
}
