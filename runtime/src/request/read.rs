//! Reading what callers hand over: bounded in size and depth, every fault in its own words.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use oci_spec::runtime::{Process, Spec};
use serde::de::DeserializeOwned;

use super::{ContainerId, Leave, MAX_CONFIG, Request};
use crate::error::{Error, Result};
use crate::sys;

/// Brackets within brackets: a config.json has about ten. serde_json's own bound (128) does not hold for unknown fields.
const MAX_DEPTH: u32 = 64;

/// The newest runtime spec that is understood, major and minor.
const NEWEST: (u64, u64) = (1, 3);

impl Request {
    /// The request of a bundle: its config.json, parsed and checked for what every container needs. The root file system is
    /// looked at by `open_rootfs`.
    pub fn from_bundle(id: ContainerId, bundle: &Path) -> Result<Self> {
        let bundle = bundle.canonicalize().map_err(Error::file("open the bundle", bundle))?;
        let path = bundle.join("config.json");
        let text = read_bounded(open_regular(&path)?, &path)?;
        Self::parse(id, bundle, &text, &path)
    }

    /// The request of a config.json by its own path; relative paths hang from where it lies.
    pub fn from_file(id: ContainerId, path: &Path) -> Result<Self> {
        let text = read_bounded(open_regular(path)?, path)?;
        let dir = path
            .parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let bundle = dir.canonicalize().map_err(Error::file("open the folder of", path))?;
        Self::parse(id, bundle, &text, path)
    }

    /// A request from any reader: `check -`. `bundle` is what relative paths hang from.
    pub fn from_reader(id: ContainerId, bundle: &Path, reader: impl Read, name: &Path) -> Result<Self> {
        let text = read_bounded(reader, name)?;
        Self::parse(id, bundle.to_owned(), &text, name)
    }

    fn parse(id: ContainerId, bundle: PathBuf, text: &[u8], path: &Path) -> Result<Self> {
        let spec: Spec = from_json(text, path)?;
        check_spec(&spec).map_err(bad(path))?;
        Ok(Self {
            id,
            bundle,
            spec,
            leave: Leave::default(),
        })
    }
}

/// exec's process.json, checked like the process of a config.json.
pub fn read_process(path: &Path) -> Result<Process> {
    let text = read_bounded(open_regular(path)?, path)?;
    parse_process(&text, path)
}

/// The same from its text; `path` is what messages call it.
pub fn parse_process(text: &[u8], path: &Path) -> Result<Process> {
    let process: Process = from_json(text, path)?;
    check_process(&process, "").map_err(bad(path))?;
    Ok(process)
}

/// A file, or stdin for `-`: read in bounds.
pub fn read_any(path: &Path) -> Result<Vec<u8>> {
    if path == Path::new("-") {
        return read_bounded(std::io::stdin().lock(), Path::new("stdin"));
    }
    read_bounded(open_regular(path)?, path)
}

/// The request's root file system, opened once (O_PATH): what is checked here is what is mounted later.
pub fn open_rootfs(request: &Request) -> Result<OwnedFd> {
    let path = request.rootfs().unwrap_or_default();
    let say = bad(&path);
    let opened = sys::open_path(&path, OFlag::O_NOFOLLOW).map_err(|errno| match errno {
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

fn bad(path: &Path) -> impl Fn(String) -> Error {
    let path = path.to_owned();
    move |why| Error::Bundle {
        path: path.clone(),
        why,
    }
}

/// Opens a regular file. O_NONBLOCK: a FIFO in its place must not hang us.
fn open_regular(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => bad(path)("the file is missing".to_owned()),
            _ => Error::file("open", path)(error),
        })?;
    let meta = file.metadata().map_err(Error::file("look at", path))?;
    if !meta.is_file() {
        return Err(bad(path)("not a regular file".to_owned()));
    }
    if meta.len() > MAX_CONFIG {
        return Err(bad(path)(too_large(path)));
    }
    Ok(file)
}

/// Reads to the end, or to the bound: the size that fstat gave may have grown.
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

/// Parses JSON that is not trusted.
pub fn from_json<T: DeserializeOwned>(text: &[u8], path: &Path) -> Result<T> {
    if let Some(offset) = too_deep(text) {
        let line = text[..offset].split(|b| *b == b'\n').count();
        return Err(bad(path)(format!(
            "nested deeper than {MAX_DEPTH} levels, at line {line}"
        )));
    }
    serde_json::from_slice(text).map_err(|error| bad(path)(explain(&error)))
}

/// Where brackets nest too deeply.
fn too_deep(text: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = end_of_string(text, at + 1),
            b'{' | b'[' if depth == MAX_DEPTH => return Some(at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the quote is that ends a string, or beyond the text. Most of a config lies within strings, so this is a loop that does nothing else.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while let Some(rest) = text.get(at..) {
        match rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
            Some(found) if rest[found] == b'"' => return at + found,
            // What is escaped is no end.
            Some(found) => at += found + 2,
            None => break,
        }
    }
    text.len()
}

/// serde's words in ours. It always says line and column.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if error.is_eof() {
        return format!("truncated JSON: {text}");
    }
    // oci-spec: «no variant for CAP_X (converted to X) at line 1 column 2».
    if let Some(rest) = text.strip_prefix("no variant for ") {
        let (name, rest) = rest.split_once(" (converted to ").unwrap_or((rest, ""));
        let place = rest.split_once(") ").map_or("", |(_, place)| place);
        return format!("unknown capability {name:?} {place}").trim_end().to_owned();
    }
    if error.is_syntax() {
        return format!("not valid JSON: {text}");
    }
    text
}

fn check_spec(spec: &Spec) -> std::result::Result<(), String> {
    check_version(spec.version())?;
    let process = spec
        .process()
        .as_ref()
        .ok_or("`process` is missing: what shall be run?")?;
    check_process(process, "process.")?;
    match spec.root() {
        None => Err("`root` is missing: name the root file system in root.path".to_owned()),
        Some(root) if root.path().as_os_str().is_empty() => {
            Err("root.path is empty: name the root file system".to_owned())
        }
        Some(root) => no_nul(|| "root.path".to_owned(), root.path().as_os_str().as_encoded_bytes()),
    }
}

fn check_version(version: &str) -> std::result::Result<(), String> {
    if version.is_empty() {
        return Err("`ociVersion` is missing".to_owned());
    }
    let mut parts = version.split('.').map(|p| p.parse::<u64>().ok());
    let (major, minor) = (parts.next().flatten(), parts.next().flatten());
    match (major, minor, parts.next()) {
        (Some(major), Some(minor), Some(_)) if major == NEWEST.0 && minor <= NEWEST.1 => Ok(()),
        (Some(_), Some(_), Some(_)) => Err(format!(
            "ociVersion {version:?} is not one of those understood: 1.0 to {}.{}",
            NEWEST.0, NEWEST.1
        )),
        _ => Err(format!("ociVersion {version:?} is not a version like 1.0.2")),
    }
}

/// What every process needs. A NUL would cut a string short in execve, after it was judged whole.
fn check_process(process: &Process, prefix: &str) -> std::result::Result<(), String> {
    let args = process.args().as_deref().unwrap_or_default();
    let Some(program) = args.first() else {
        return Err(format!("`{prefix}args` is missing or empty: what shall be run?"));
    };
    if program.is_empty() {
        return Err(format!("{prefix}args[0] is empty: what shall be run?"));
    }
    for (list, strings) in [("args", args), ("env", process.env().as_deref().unwrap_or_default())] {
        for (i, text) in strings.iter().enumerate() {
            no_nul(|| format!("{prefix}{list}[{i}]"), text.as_bytes())?;
        }
    }
    let cwd = process.cwd();
    no_nul(|| format!("{prefix}cwd"), cwd.as_os_str().as_encoded_bytes())?;
    if !cwd.is_absolute() {
        return Err(format!("{prefix}cwd {:?} is not an absolute path", cwd.display()));
    }
    Ok(())
}

fn no_nul(what: impl Fn() -> String, bytes: &[u8]) -> std::result::Result<(), String> {
    if bytes.contains(&0) {
        return Err(format!("{} contains a NUL byte", what()));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    const GOOD: &str = r#"{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/"},"root":{"path":"rootfs"}}"#;

    fn bundle(name: &str, config: &[u8]) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("gabion-read-{}-{name}", std::process::id()));
        fs::create_dir_all(dir.join("rootfs")).unwrap();
        fs::write(dir.join("config.json"), config).unwrap();
        dir
    }

    fn read(name: &str, config: &[u8]) -> Result<Request> {
        let dir = bundle(name, config);
        let result = Request::from_bundle("c".parse().unwrap(), &dir);
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
            (
                "cap",
                GOOD.replace(
                    r#""cwd":"/""#,
                    r#""cwd":"/","capabilities":{"bounding":["CAP_FLY"],"effective":[],"permitted":[]}"#,
                ),
                "unknown capability \"CAP_FLY\" at line 1",
            ),
        ] {
            let text = why(name, &config);
            assert!(text.contains(words), "{name}: {text}");
            assert!(text.contains("config.json: "), "{name}: {text}");
        }
    }

    #[test]
    fn brackets_count_outside_of_strings_only() {
        let (many, quote) = ("[".repeat(65), '"');
        for text in [
            format!("{quote}{many}{quote}"),
            // The quote within is escaped; what escapes it is not.
            format!(r#"["\"{many}"]"#),
            format!(r#"["\\", "{many}"]"#),
            format!("{quote}{many}"),
            format!(r"{quote}\"),
            "[]".repeat(65),
        ] {
            assert_eq!(too_deep(text.as_bytes()), None, "{text}");
        }
        let closed = format!(r#"["\\"{many}"#);
        assert_eq!(too_deep(closed.as_bytes()), Some(5 + 63));
        assert_eq!(too_deep(many.as_bytes()), Some(64));
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
        let error =
            Request::from_reader("c".parse().unwrap(), Path::new("/"), endless, Path::new("config.json")).unwrap_err();
        assert_eq!(error.to_string(), "config.json: config.json is larger than 8 MiB");
        let text = why("large", &" ".repeat(9 << 20));
        assert!(text.ends_with("config.json is larger than 8 MiB"), "{text}");
    }

    #[test]
    fn a_missing_file_and_a_directory_say_so() {
        let dir = bundle("missing", b"");
        fs::remove_file(dir.join("config.json")).unwrap();
        let missing = Request::from_bundle("c".parse().unwrap(), &dir)
            .unwrap_err()
            .to_string();
        assert!(missing.ends_with("config.json: the file is missing"), "{missing}");
        fs::create_dir(dir.join("config.json")).unwrap();
        let directory = Request::from_bundle("c".parse().unwrap(), &dir)
            .unwrap_err()
            .to_string();
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
            let request = Request::from_bundle("c".parse().unwrap(), &dir).unwrap();
            let text = open_rootfs(&request).unwrap_err().to_string();
            assert!(text.contains(words), "{path}: {text}");
        }
        fs::write(dir.join("config.json"), GOOD).unwrap();
        assert!(open_rootfs(&Request::from_bundle("c".parse().unwrap(), &dir).unwrap()).is_ok());
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
