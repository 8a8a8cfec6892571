//! Parsing what callers hand over: bounded in depth, every fault in its own words.

use std::fmt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde::de::DeserializeOwned;

use super::json::{self, Odd};
use super::{Channel, ContainerId, Leave, Request, bounds};
use crate::ids;
use crate::request::annotations;

/// Brackets within brackets: a config.json has about ten. serde_json's own bound (128) does not hold for unknown fields.
const MAX_DEPTH: u32 = 64;

/// The newest runtime spec that is understood, major and minor.
const NEWEST: (u64, u64) = (1, 3);

/// A config.json, process.json or resources that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadInput {
    /// What messages call it.
    pub path: PathBuf,
    pub why: String,
    /// Stable, for machines.
    pub code: &'static str,
}

/// The code of what is no config.json, process.json or resources.
pub const INVALID: &str = "bundle.invalid";

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for BadInput {}

fn bad(path: &Path) -> impl Fn(String) -> BadInput {
    let path = path.to_owned();
    move |why| BadInput {
        path: path.clone(),
        why,
        code: INVALID,
    }
}

impl Request {
    /// Parses a config.json and checks it for what every container needs. `bundle` is what relative paths hang from, `path` what
    /// messages call the file.
    ///
    /// # Errors
    /// It is not JSON, not a config.json, lacks what every container needs, or has an annotation of gabion's that is none.
    pub fn parse(id: ContainerId, bundle: PathBuf, text: &[u8], path: &Path) -> Result<Self, BadInput> {
        let Read { value: spec, odd } = from_json::<Spec>(text, path)?;
        bounds::spec(&spec).map_err(bad(path))?;
        check_spec(&spec).map_err(bad(path))?;
        let request = Self {
            id,
            bundle,
            spec,
            channel: Channel::Direct,
            leave: Leave::default(),
            odd,
        };
        annotations::check(&request).map_err(|refused| BadInput {
            path: path.to_owned(),
            why: refused.why,
            code: refused.code,
        })?;
        Ok(request)
    }
}

/// Parses exec's process.json and checks it like the process of a config.json.
///
/// # Errors
/// As of [`Request::parse`].
pub fn parse_process(text: &[u8], path: &Path) -> Result<Read<Process>, BadInput> {
    let process: Read<Process> = from_json(text, path)?;
    bounds::process(&process.value, "").map_err(bad(path))?;
    check_process(&process.value, "").map_err(bad(path))?;
    Ok(process)
}

/// Parses update's resources: `linux.resources` of a config.json.
///
/// # Errors
/// As of [`from_json`], or it names more of something than is taken.
pub fn parse_resources(text: &[u8], path: &Path) -> Result<Read<LinuxResources>, BadInput> {
    let limits: Read<LinuxResources> = from_json(text, path)?;
    bounds::resources(&limits.value, "").map_err(bad(path))?;
    Ok(limits)
}

/// What was read, and what of it only level permissive takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read<T> {
    pub value: T,
    pub odd: Vec<Odd>,
}

/// Parses JSON that is not trusted.
///
/// # Errors
/// It is nested too deeply, or is not of this type.
pub fn from_json<T: DeserializeOwned>(text: &[u8], path: &Path) -> Result<Read<T>, BadInput> {
    if let Some(offset) = too_deep(text) {
        let line = text[..offset].split(|b| *b == b'\n').count();
        return Err(bad(path)(format!(
            "nested deeper than {MAX_DEPTH} levels, at line {line}"
        )));
    }
    let (value, odd) = json::read(text).map_err(|error| bad(path)(explain(&error)))?;
    Ok(Read { value, odd })
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
    if error.is_syntax() {
        return format!("not valid JSON: {text}");
    }
    text
}

fn check_spec(spec: &Spec) -> Result<(), String> {
    check_version(spec.version())?;
    let process = spec
        .process()
        .as_ref()
        .ok_or("`process` is missing: what shall be run?")?;
    check_process(process, "process.")?;
    check_ids(spec)?;
    match spec.root() {
        None => Err("`root` is missing: name the root file system in root.path".to_owned()),
        Some(root) if root.path().as_os_str().is_empty() => {
            Err("root.path is empty: name the root file system".to_owned())
        }
        Some(root) => no_nul(|| "root.path".to_owned(), root.path().as_os_str().as_encoded_bytes()),
    }
}

fn check_version(version: &str) -> Result<(), String> {
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
fn check_process(process: &Process, prefix: &str) -> Result<(), String> {
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
    match ids::no_id_of(process.user()) {
        Some(field) => Err(no_id(&format!("{prefix}{field}"))),
        None => Ok(()),
    }
}

/// Ids of mappings and devices. Where the kernel would take the number for «leave it as it is», root would stay root.
fn check_ids(spec: &Spec) -> Result<(), String> {
    let linux = spec.linux().as_ref();
    let lists = [
        ("linux.uidMappings", linux.and_then(|l| l.uid_mappings().as_deref())),
        ("linux.gidMappings", linux.and_then(|l| l.gid_mappings().as_deref())),
    ];
    let lists = lists.map(|(name, list)| (name.to_owned(), list)).into_iter();
    let mounts = spec.mounts().iter().flatten().enumerate();
    let mounts = mounts.flat_map(|(i, m)| {
        [
            (format!("mounts[{i}].uidMappings"), m.uid_mappings().as_deref()),
            (format!("mounts[{i}].gidMappings"), m.gid_mappings().as_deref()),
        ]
    });
    for (name, list) in lists.chain(mounts) {
        if let Some(at) = ids::no_id_in(list.unwrap_or_default()) {
            return Err(no_id(&format!("{name}{at}")));
        }
    }
    let devices = linux
        .and_then(|l| l.devices().as_ref())
        .into_iter()
        .flatten()
        .enumerate();
    for (i, device) in devices {
        for (name, id) in [("uid", device.uid()), ("gid", device.gid())] {
            if id == Some(ids::NO_ID) {
                return Err(no_id(&format!("linux.devices[{i}].{name}")));
            }
        }
    }
    Ok(())
}

fn no_id(field: &str) -> String {
    format!(
        "{field} reaches {}, which is no id: the kernel takes it for «leave it as it is»",
        ids::NO_ID
    )
}

fn no_nul(what: impl Fn() -> String, bytes: &[u8]) -> Result<(), String> {
    if bytes.contains(&0) {
        return Err(format!("{} contains a NUL byte", what()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_that_is_no_id_is_refused_by_the_name_of_its_field() {
        let text = |user: &str, linux: &str, mount: &str| {
            format!(
                r#"{{"ociVersion":"1.0.2","process":{{"user":{user},"args":["sh"],"cwd":"/"}},"root":{{"path":"r"}},
                    "linux":{linux},"mounts":[{{"destination":"/d"{mount}}}]}}"#
            )
        };
        let parsed = |text: &str| {
            let id = "c".parse().map_err(|_| "id")?;
            Request::parse(id, "/b".into(), text.as_bytes(), Path::new("t"))
                .map_err(|bad| Box::leak(bad.why.into_boxed_str()) as &str)
        };
        let good = r#"{"uid":4294967294,"gid":0}"#;
        assert!(parsed(&text(good, "{}", "")).is_ok());
        let map = r#"[{"containerID":4294967295,"hostID":0,"size":1}]"#;
        for (text, field) in [
            (text(r#"{"uid":4294967295,"gid":0}"#, "{}", ""), "process.user.uid"),
            (text(r#"{"uid":0,"gid":4294967295}"#, "{}", ""), "process.user.gid"),
            (
                text(r#"{"uid":0,"gid":0,"additionalGids":[4294967295]}"#, "{}", ""),
                "process.user.additionalGids[0]",
            ),
            (
                text(good, &format!(r#"{{"uidMappings":{map}}}"#), ""),
                "linux.uidMappings[0].containerID",
            ),
            (
                text(good, &format!(r#"{{"gidMappings":{map}}}"#), ""),
                "linux.gidMappings[0].containerID",
            ),
            (
                text(good, "{}", &format!(r#","gidMappings":{map}"#)),
                "mounts[0].gidMappings[0].containerID",
            ),
            (
                text(
                    good,
                    r#"{"devices":[{"path":"/dev/x","type":"c","major":1,"minor":3,"uid":4294967295}]}"#,
                    "",
                ),
                "linux.devices[0].uid",
            ),
        ] {
            let why = parsed(&text).err().unwrap_or_default();
            assert!(why.starts_with(field), "{field}: {why}");
        }
        let process = |uid: u32| format!(r#"{{"user":{{"uid":{uid},"gid":0}},"args":["sh"],"cwd":"/"}}"#);
        assert!(parse_process(process(7).as_bytes(), Path::new("p")).is_ok());
        assert!(parse_process(process(ids::NO_ID).as_bytes(), Path::new("p")).is_err());
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
}
