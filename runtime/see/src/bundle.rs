//! Reading what callers hand over, in bounds. What it means is `gabion_core::request`'s.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use gabion_core::request::{self, BadInput, ContainerId, INVALID, MAX_CONFIG, Request, parse_process};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::Process;

use crate::error::{Error, Result};
use crate::vetted::{self, Fault, Kind, Links, Owner, Rules};

/// A config.json is the caller's word, whoever the file belongs to, and an engine may link it.
const RULES: Rules = Rules {
    kind: Kind::File,
    owner: Owner::Anybody,
    forbidden: 0,
    largest: MAX_CONFIG,
    links: Links::Follow,
};

/// What a command line names may also come from a pipe.
const PIPED: Rules = Rules {
    kind: Kind::FileOrPipe,
    ..RULES
};

/// How long those who write to a pipe may take, in all.
const WRITER: Duration = Duration::from_secs(10);

/// Reads a bundle's config.json. The root file system is looked at by [`open_rootfs`].
///
/// # Errors
/// The file is missing, too large, no regular file, or not a config.json.
pub fn from_bundle(id: ContainerId, bundle: &Path) -> Result<Request> {
    let bundle = bundle.canonicalize().map_err(Error::file("open the bundle", bundle))?;
    let path = bundle.join("config.json");
    let text = read_file(&path)?;
    Ok(Request::parse(id, bundle, &text, &path)?)
}

/// Reads a config.json from any reader: `check -`. `bundle` is what relative paths hang from.
///
/// # Errors
/// As of [`from_bundle`].
pub fn from_reader(id: ContainerId, bundle: &Path, reader: impl Read, name: &Path) -> Result<Request> {
    let text = read_bounded(reader, name)?;
    Ok(Request::parse(id, bundle.to_owned(), &text, name)?)
}

/// Reads exec's process.json.
///
/// # Errors
/// As of [`from_bundle`].
pub fn read_process(path: &Path) -> Result<request::Read<Process>> {
    Ok(parse_process(&read_named(path)?, path)?)
}

/// Reads a file, or stdin for `-`.
///
/// # Errors
/// It cannot be read, or is too large.
pub fn read_any(path: &Path) -> Result<Vec<u8>> {
    if path == Path::new("-") {
        return read_bounded(std::io::stdin().lock(), Path::new("stdin"));
    }
    read_named(path)
}

/// The request's root file system, opened once (O_PATH): what is checked here is what is mounted later.
pub fn open_rootfs(request: &Request) -> Result<OwnedFd> {
    let path = request.rootfs().unwrap_or_default();
    let say = bad(&path);
    let opened = gabion_sys::open_path(&path, OFlag::O_NOFOLLOW).map_err(|errno| match errno {
        Errno::ENOENT => bad(&path)("the root file system of root.path is missing".to_owned()),
        _ => Error::file("open the root file system", &path)(errno.into()),
    })?;
    let file = File::from(opened);
    let seen = file
        .metadata()
        .map_err(Error::file("look at the root file system", &path))?;
    if seen.file_type().is_symlink() {
        return Err(say(
            "root.path is a symbolic link: name the directory that it leads to".to_owned()
        ));
    }
    if !seen.is_dir() {
        return Err(say("root.path is not a directory".to_owned()));
    }
    // By identity: /, //, /proc/self/root and a bind mount of / are all the host's root.
    let host = Path::new("/").metadata().map_err(Error::file("look at", "/"))?;
    if (seen.dev(), seen.ino()) == (host.dev(), host.ino()) {
        return Err(say(
            "root.path is the host's own root directory: a container needs one of its own".to_owned(),
        ));
    }
    Ok(file.into())
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    vetted::open(path, &RULES)
        .and_then(|file| vetted::read(file, &RULES))
        .map_err(faulty(path))
}

/// Reads what a command line names: a file, or a pipe to its end.
fn read_named(path: &Path) -> Result<Vec<u8>> {
    let file = vetted::open(path, &PIPED).map_err(faulty(path))?;
    let piped = file.metadata().is_ok_and(|meta| meta.file_type().is_fifo());
    if piped {
        return read_pipe(file, path, WRITER);
    }
    vetted::read(file, &PIPED).map_err(faulty(path))
}

fn faulty(path: &Path) -> impl Fn(Fault) -> Error {
    let path = path.to_owned();
    move |fault| match fault {
        Fault::Open(_) => Error::file("open", &path)(fault.into()),
        Fault::Larger(_) => bad(&path)(too_large(&path)),
        other => bad(&path)(other.to_string()),
    }
}

/// Reads until the last writer has closed the pipe. It was opened so that nothing waits; here is the one wait, and it ends.
fn read_pipe(mut pipe: File, path: &Path, patience: Duration) -> Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    let mut text = Vec::new();
    let mut chunk = [0; 16 << 10];
    let mut waited = false;
    loop {
        match pipe.read(&mut chunk) {
            // Nobody has opened it for writing so far, unless something came or poll(2) told of it.
            Ok(0) if waited || !text.is_empty() => return Ok(text),
            Ok(0) => {}
            Ok(count) => text.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(Error::file("read", path)(error)),
        }
        if text.len() as u64 > MAX_CONFIG {
            return Err(bad(path)(too_large(path)));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) => {
                return Err(bad(path)(format!(
                    "whoever writes to this pipe did not come to an end within {} s",
                    patience.as_secs()
                )));
            }
            Ok(_) => waited = true,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::file("wait for", path)(errno.into())),
        }
    }
}

/// Reads to the end, or to the bound.
fn read_bounded(reader: impl Read, path: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::with_capacity(32 << 10);
    reader
        .take(MAX_CONFIG + 1)
        .read_to_end(&mut text)
        .map_err(Error::file("read", path))?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(bad(path)(too_large(path)));
    }
    Ok(text)
}

fn too_large(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    format!("{name} is larger than {} MiB", MAX_CONFIG >> 20)
}

fn bad(path: &Path) -> impl Fn(String) -> Error {
    let path = path.to_owned();
    move |why| {
        Error::Bundle(BadInput {
            path: path.clone(),
            why,
            code: INVALID,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    const GOOD: &str = r#"{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/"},"root":{"path":"rootfs"}}"#;

    fn bundle(name: &str, config: &[u8]) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("gabion-read-{}-{name}", std::process::id()));
        fs::create_dir_all(dir.join("rootfs")).unwrap();
        fs::write(dir.join("config.json"), config).unwrap();
        dir
    }

    fn read(name: &str, config: &[u8]) -> Result<Request> {
        let dir = bundle(name, config);
        let result = from_bundle("c".parse().unwrap(), &dir);
        fs::remove_dir_all(dir).unwrap();
        result
    }

    fn why(name: &str, config: &str) -> String {
        read(name, config.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_good_bundle_is_read() {
        let request = read("good", GOOD.as_bytes()).unwrap();
        assert_eq!(
            request.process().unwrap().args().as_ref().unwrap(),
            &vec!["sh".to_owned()]
        );
    }

    #[test]
    fn each_fault_has_its_own_words() {
        let deep = format!(
            "{}{}",
            GOOD.trim_end_matches('}'),
            format_args!("}},\"x\":{}", "[".repeat(100_000))
        );
        let version = |v: &str| GOOD.replace("1.0.2", v);
        for (name, config, words) in [
            ("cut", GOOD[..60].to_owned(), "truncated JSON: EOF while parsing"),
            ("empty", String::new(), "truncated JSON"),
            ("junk", "{]".to_owned(), "not valid JSON"),
            ("deep", deep, "nested deeper than 64 levels, at line 1"),
            ("new", version("1.4.0"), "ociVersion \"1.4.0\" is not one of those"),
            ("old", version("0.9.0"), "1.0 to 1.3"),
            ("odd", version("one"), "is not a version like 1.0.2"),
            ("none", version(""), "`ociVersion` is missing"),
            (
                "noproc",
                r#"{"ociVersion":"1.0.2","root":{"path":"r"}}"#.to_owned(),
                "`process` is missing",
            ),
            (
                "noroot",
                GOOD.replace(r#","root":{"path":"rootfs"}"#, ""),
                "`root` is missing",
            ),
            (
                "noargs",
                GOOD.replace(r#""args":["sh"],"#, ""),
                "`process.args` is missing",
            ),
            ("noarg0", GOOD.replace(r#"["sh"]"#, "[]"), "`process.args` is missing"),
            (
                "nul",
                GOOD.replace("[\"sh\"]", r#"["sh","a\u0000b"]"#),
                "process.args[1] contains a NUL byte",
            ),
            (
                "nulenv",
                GOOD.replace("[\"sh\"]", r#"["sh"],"env":["A=\u0000"]"#),
                "process.env[0] contains a NUL",
            ),
            (
                "cwd",
                GOOD.replace(r#""cwd":"/""#, r#""cwd":"a""#),
                "process.cwd \"a\" is not an absolute path",
            ),
            (
                "range",
                GOOD.replace(r#""uid":0"#, r#""uid":4294967296"#),
                "at line 1 column",
            ),
        ] {
            let text = why(name, &config);
            assert!(text.contains(words), "{name}: {text}");
            assert!(text.contains("config.json: "), "{name}: {text}");
        }
    }

    /// A FIFO, and what a thread does that has opened it for writing. What that gives back stays open until it was read.
    fn piped(name: &str, writer: impl FnOnce(File) -> Option<File> + Send + 'static) -> Result<Vec<u8>> {
        let dir = bundle(name, b"");
        let fifo = dir.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let pipe = vetted::open(&fifo, &PIPED).unwrap();
        let end = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
        let thread = std::thread::spawn(move || writer(end));
        let read = read_pipe(pipe, &fifo, Duration::from_secs(1));
        drop(thread.join().unwrap());
        fs::remove_dir_all(dir).unwrap();
        read
    }

    #[test]
    fn a_pipe_is_read_to_its_end_and_no_longer_than_its_writer_may_take() {
        use std::io::Write;
        let more = vec![b' '; 200_000];
        let sent = more.clone();
        let read = piped("pipe", move |mut end| {
            end.write_all(&sent).unwrap();
            None
        });
        assert_eq!(read.unwrap(), more);
        assert_eq!(piped("pipe-empty", |_| None).unwrap(), b"");
        let silent = piped("pipe-silent", |mut end| {
            end.write_all(b"{").unwrap();
            Some(end)
        });
        assert!(silent.unwrap_err().to_string().contains("did not come to an end"));
        let large = piped("pipe-large", |mut end| {
            // It fails where the reader has gone.
            drop(end.write_all(&vec![b' '; 9 << 20]));
            None
        });
        assert!(large.unwrap_err().to_string().ends_with("larger than 8 MiB"));
    }

    #[test]
    fn a_device_is_neither_file_nor_pipe() {
        let text = read_process(Path::new("/dev/null")).unwrap_err().to_string();
        assert!(text.contains("neither a regular file nor a pipe"), "{text}");
    }

    #[test]
    fn every_supported_version_is_taken() {
        for version in ["1.0.0", "1.0.2-dev", "1.1.0+dev", "1.2.1", "1.3.0"] {
            assert!(
                read("versions", GOOD.replace("1.0.2", version).as_bytes()).is_ok(),
                "{version}"
            );
        }
    }

    #[test]
    fn what_is_too_large_is_not_read_whole() {
        let endless = std::io::repeat(b' ');
        let error = from_reader("c".parse().unwrap(), Path::new("/"), endless, Path::new("config.json")).unwrap_err();
        assert_eq!(error.to_string(), "config.json: config.json is larger than 8 MiB");
        let text = why("large", &" ".repeat(9 << 20));
        assert!(text.ends_with("config.json is larger than 8 MiB"), "{text}");
    }

    #[test]
    fn a_missing_file_and_a_directory_say_so() {
        let dir = bundle("missing", b"");
        fs::remove_file(dir.join("config.json")).unwrap();
        let missing = from_bundle("c".parse().unwrap(), &dir).unwrap_err().to_string();
        assert!(missing.ends_with("config.json: the file is missing"), "{missing}");
        fs::create_dir(dir.join("config.json")).unwrap();
        let directory = from_bundle("c".parse().unwrap(), &dir).unwrap_err().to_string();
        assert!(directory.ends_with("not a regular file"), "{directory}");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_root_file_system_must_be_a_directory_of_its_own() {
        let dir = bundle("rootfs", GOOD.as_bytes());
        std::os::unix::fs::symlink("rootfs", dir.join("link")).unwrap();
        for (path, words) in [
            ("nowhere", "is missing"),
            ("link", "symbolic link"),
            ("config.json", "not a directory"),
            ("/", "host's own root"),
            ("/proc/self/root/", "host's own root"),
            ("../../../../../..", "host's own root"),
        ] {
            fs::write(dir.join("config.json"), GOOD.replace("rootfs", path)).unwrap();
            let request = from_bundle("c".parse().unwrap(), &dir).unwrap();
            let text = open_rootfs(&request).unwrap_err().to_string();
            assert!(text.contains(words), "{path}: {text}");
        }
        fs::write(dir.join("config.json"), GOOD).unwrap();
        assert!(open_rootfs(&from_bundle("c".parse().unwrap(), &dir).unwrap()).is_ok());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_process_is_checked_like_a_spec_s() {
        let path = std::env::temp_dir().join(format!("gabion-process-{}", std::process::id()));
        fs::write(&path, r#"{"user":{"uid":0,"gid":0},"args":[],"cwd":"/"}"#).unwrap();
        let text = read_process(&path).unwrap_err().to_string();
        assert!(text.contains("`args` is missing"), "{text}");
        fs::remove_file(path).unwrap();
    }
}
