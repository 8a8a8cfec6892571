//! Golden cases: a request, a policy and a host in; verdicts, refusal codes and the resulting spec out. tests/README.md
//! says how a case is written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gabion_core::harden::harden;
use gabion_core::hardened::{Denial, Hardened};
use gabion_core::policy::{Effective, Policy};
use gabion_core::request::{Channel, Leave, Request};
use gabion_core::testing::door_of;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub mod host;
pub mod invariants;
pub mod json;

/// What goes wrong with a case, in words that name its file.
pub type Outcome<T> = Result<T, String>;

/// The folder of this crate.
pub fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// `expect.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The verdict of the control that the case's folder is named after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Value>,
    /// Verdicts of other controls, where they matter to the case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub verdicts: BTreeMap<String, Value>,
    /// The codes of all refusals, in order, those that repeat once. Empty: the container runs.
    #[serde(default)]
    pub codes: Vec<String>,
    /// `spec:/json/pointer`, `plan:/…` or `decision:/…` (of this control) to what must stand there; null: nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, Value>,
}

/// Everything that one case gives to `harden`.
#[derive(Clone, Debug)]
pub struct Input {
    pub request: Request,
    pub effective: Effective,
    pub host: gabion_core::host::Host,
}

impl Input {
    /// Reads a case's folder.
    pub fn read(case: &Path) -> Outcome<Self> {
        Self::with(case, &Remedy::default())
    }

    /// The same after somebody did what a refusal advised.
    pub fn with(case: &Path, remedy: &Remedy) -> Outcome<Self> {
        let mut config = json::read(&case.join("config.json"))?;
        let base = json::take_text(&mut config, "$base").unwrap_or_else(|| "base/bundle".to_owned());
        let id = json::take_text(&mut config, "$id");
        let door = json::take_text(&mut config, "$door");
        let append = config.as_object_mut().and_then(|o| o.remove("$append"));
        let flags = config.as_object_mut().and_then(|o| o.remove("$flags"));
        let no_pivot = flags.and_then(|f| f.as_array().cloned()) == Some(vec!["--no-pivot".into()]);
        let mut whole = json::read(&home().join(format!("{base}.json")))?;
        json::merge(&mut whole, config);
        json::append(&mut whole, append)?;
        for (pointer, value) in &remedy.set {
            json::set(&mut whole, pointer, value.clone())?;
        }
        let mut request = request(&id.unwrap_or_else(|| likely_id(&whole)), whole)?;
        if no_pivot && !remedy.no_flags {
            request.leave = Leave::MoveRoot;
        }
        let policy: Policy = given(remedy.policy.as_deref(), &case.join("policy.toml"))?;
        // The CRI that the policy trusts, where the case names no other door.
        let by = door.map_or(Ok(policy.cri), |name| serde_json::from_value(name.into()));
        request.channel = door_of(by.map_err(|e| format!("$door: {e}"))?).0;
        let facts: host::HostFile = given(remedy.host.as_deref(), &case.join("host.toml"))?;
        let host = facts.build(&request);
        let effective = policy.effective(&request, &host, "test");
        Ok(Self {
            request,
            effective,
            host,
        })
    }

    /// `harden` with what was read.
    pub fn harden(&self) -> Result<Hardened, Denial> {
        harden(&self.request, &self.effective, &self.host)
    }
}

/// One entry of `remedies.json`: what is done about a refusal of a case.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Remedy {
    pub case: String,
    /// In words.
    pub remedy: String,
    /// JSON pointers into the case's whole config; null takes away.
    pub set: BTreeMap<String, Value>,
    /// create is called without its `$flags`.
    pub no_flags: bool,
    /// In the place of the case's policy.toml.
    pub policy: Option<String>,
    /// In the place of the case's host.toml.
    pub host: Option<String>,
}

fn given<T: Default + serde::de::DeserializeOwned>(text: Option<&str>, path: &Path) -> Outcome<T> {
    match text {
        Some(text) => toml::from_str(text).map_err(|e| format!("{}: {e}", path.display())),
        None => optional(path),
    }
}

/// A request of this config, in a bundle that does not exist.
pub fn request(id: &str, config: Value) -> Outcome<Request> {
    let spec: Spec = serde_json::from_value(config).map_err(|e| format!("config.json: {e}"))?;
    let mut request = Request {
        id: id.parse().map_err(|e| format!("$id: {e}"))?,
        bundle: "/bundle".into(),
        spec,
        channel: Channel::Direct,
        leave: Leave::default(),
        odd: Vec::new(),
    };
    if let Some(own) = gabion_core::control::rootfs::bundle_of_a_copy(&request) {
        request.bundle = own;
    }
    Ok(request)
}

/// A sandbox's own container has the sandbox's id.
fn likely_id(config: &Value) -> String {
    let annotation = |key: &str| config["annotations"][key].as_str();
    let sandbox = annotation("io.kubernetes.cri.container-type") == Some("sandbox");
    let named = annotation("io.kubernetes.cri.sandbox-id").filter(|_| sandbox);
    named.unwrap_or("c1").to_owned()
}

fn optional<T: Default + serde::de::DeserializeOwned>(path: &Path) -> Outcome<T> {
    match fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

/// What `harden` made of a case, in the terms of `expect.json`; `wanted` says what to look at.
fn look(case: &Path, control: &str, wanted: &Expect) -> Outcome<Expect> {
    let input = Input::read(case)?;
    let result = input.harden();
    let (decisions, spec, plan) = match &result {
        Ok(h) => (h.decisions(), Some(h.spec()), Some(h.plan())),
        Err(d) => (d.decisions.as_slice(), None, None),
    };
    let mut codes: Vec<String> = match &result {
        Ok(_) => Vec::new(),
        Err(d) => d.refusals().filter_map(|c| c.code.clone()).collect(),
    };
    // A privileged container is refused twenty capabilities: how many is not the point.
    codes.dedup();
    one_line(&result)?;
    let decision = |id: &str| decisions.iter().find(|d| d.control.as_str() == id);
    let verdict = |id: &str| decision(id).map_or(Value::Null, |d| d.verdict.as_str().into());
    let value = |v: Result<Value, serde_json::Error>| v.map_err(|e| e.to_string());
    let (spec, plan) = (value(serde_json::to_value(spec))?, value(serde_json::to_value(plan))?);
    let own = value(serde_json::to_value(decision(control)))?;
    let check = |key: &String| -> Outcome<(String, Value)> {
        let found = match key.split_once(':') {
            Some(("spec", at)) => spec.pointer(at),
            Some(("plan", at)) => plan.pointer(at),
            Some(("decision", at)) => own.pointer(at),
            _ => return Err(format!("{key:?} is not spec:/…, plan:/… or decision:/…")),
        };
        Ok((key.clone(), found.cloned().unwrap_or(Value::Null)))
    };
    Ok(Expect {
        verdict: decision(control).map(|d| d.verdict.as_str().into()),
        verdicts: wanted.verdicts.keys().map(|id| (id.clone(), verdict(id))).collect(),
        codes,
        checks: wanted.checks.keys().map(check).collect::<Outcome<_>>()?,
    })
}

/// Messages reach callers that read one line and turn some words into other errors.
fn one_line(result: &Result<Hardened, Denial>) -> Outcome<()> {
    let Err(denial) = result else { return Ok(()) };
    for change in denial.refusals() {
        let text = format!("{} {}", change.reason, change.remedy.as_deref().unwrap_or_default());
        let lower = text.to_lowercase();
        let words = [
            "operation not permitted",
            "permission denied",
            "no such file or directory",
        ];
        if text.contains('\n') || words.iter().any(|w| lower.contains(w)) || change.remedy.is_none() {
            return Err(format!("message is not fit for callers: {text:?}"));
        }
    }
    Ok(())
}

/// Runs one case; with `UPDATE_GOLDEN=1` writes down what was seen instead of judging it.
pub fn run(case: &Path) -> Outcome<()> {
    let control = case
        .parent()
        .and_then(Path::file_name)
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    let path = case.join("expect.json");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let wanted: Expect = match json::read(&path) {
        Ok(value) => serde_json::from_value(value).map_err(|e| format!("{}: {e}", path.display()))?,
        Err(_) if update => Expect::default(),
        Err(e) => return Err(e),
    };
    let seen = look(case, control, &wanted)?;
    if update {
        let text = serde_json::to_string_pretty(&seen).map_err(|e| e.to_string())?;
        return fs::write(&path, text + "\n").map_err(|e| format!("{}: {e}", path.display()));
    }
    let mut wrong = Vec::new();
    if seen.verdict != wanted.verdict {
        wrong.push(format!("verdict: want {:?}, got {:?}", wanted.verdict, seen.verdict));
    }
    if seen.codes != wanted.codes {
        wrong.push(format!("codes: want {:?}, got {:?}", wanted.codes, seen.codes));
    }
    for (want, got) in [(&wanted.verdicts, &seen.verdicts), (&wanted.checks, &seen.checks)] {
        for (key, value) in want {
            let other = got.get(key).unwrap_or(&Value::Null);
            if other != value {
                wrong.push(format!("{key}: want {value}, got {other}"));
            }
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(wrong.join("\n    "))
}

/// All folders below `cases/<control>/`, in order.
pub fn cases() -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for control in folders(&home().join("cases"))? {
        found.extend(folders(&control)?);
    }
    Ok(found)
}

fn folders(of: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = fs::read_dir(of).map_err(|e| format!("{}: {e}", of.display()))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    found.sort();
    Ok(found)
}

/// The real config.json files of engines.
pub fn engine_configs() -> Outcome<Vec<(String, Value)>> {
    let folder = home().join("inputs");
    let entries = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    paths
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .map(|p| {
            Ok((
                p.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
                json::read(&p)?,
            ))
        })
        .collect()
}
