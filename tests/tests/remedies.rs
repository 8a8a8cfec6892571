//! For each code that a case is refused with, what its remedy says is done: the container then runs. `remedies.json` has one
//! entry for each code; those that no case gives (exec, update, limits of v1 swap) are tried where they are tested.

use std::collections::{BTreeMap, BTreeSet};

use golden::{Expect, Input, Outcome, Remedy, cases, home, json};

fn remedies() -> Outcome<BTreeMap<String, Remedy>> {
    let value = json::read(&home().join("remedies.json"))?;
    serde_json::from_value(value).map_err(|e| format!("remedies.json: {e}"))
}

fn codes(input: &Input) -> Vec<String> {
    match input.harden() {
        Ok(_) => Vec::new(),
        Err(denial) => denial.refusals().filter_map(|c| c.code.clone()).collect(),
    }
}

#[test]
fn every_code_has_a_remedy() -> Outcome<()> {
    let mut emitted = BTreeSet::new();
    for case in cases()? {
        let expect: Expect =
            serde_json::from_value(json::read(&case.join("expect.json"))?).map_err(|e| e.to_string())?;
        emitted.extend(expect.codes);
    }
    let listed: BTreeSet<String> = remedies()?.into_keys().collect();
    let missing: Vec<_> = emitted.difference(&listed).collect();
    assert!(missing.is_empty(), "not in remedies.json: {missing:?}");
    Ok(())
}

#[test]
fn every_remedy_makes_the_container_run() -> Outcome<()> {
    let mut failed = Vec::new();
    for (code, remedy) in remedies()? {
        let case = home().join("cases").join(&remedy.case);
        let before = codes(&Input::read(&case)?);
        if !before.contains(&code) {
            failed.push(format!("{code}: {} is refused with {before:?}", remedy.case));
        }
        match Input::with(&case, &remedy) {
            Err(why) => failed.push(format!("{code}: {why}")),
            Ok(input) => {
                let after = codes(&input);
                if !after.is_empty() {
                    failed.push(format!("{code}: after «{}» still {after:?}", remedy.remedy));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    Ok(())
}

/// A loosening as a refusal prints it, taken out of the line as a person would.
fn printed(remedy: &str) -> Option<Printed> {
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).collect::<Vec<_>>().join("\n");
    if let Some((_, lines)) = remedy.split_once("by these lines in /etc/gabion/policy.toml: ") {
        return Some(Printed::Lines(quoted(lines)));
    }
    if let Some((_, rest)) = remedy.split_once("by the exception that it has (reason ") {
        let (reason, line) = rest.split_once("): ")?;
        return Some(Printed::Of(reason.trim_matches('"').to_owned(), quoted(line)));
    }
    let (_, rest) = remedy.split_once("(docs/POLICY.md): ")?;
    let (line, _) = rest.split_once(" in /etc/gabion/runtimes/NAME.toml")?;
    Some(Printed::Lines(line.replacen("] ", "]\n", 1)))
}

enum Printed {
    /// Lines for a policy.
    Lines(String),
    /// A line for the exception with this reason.
    Of(String, String),
}

impl Printed {
    /// The policy with it.
    fn into(self, policy: &str) -> Outcome<String> {
        let read = |text: &str| text.parse::<toml::Table>().map_err(|e| format!("{e}: {text}"));
        let mut whole = read(policy)?;
        match self {
            Self::Lines(lines) => join(&mut whole, read(&lines)?),
            Self::Of(reason, line) => {
                let list = whole.get_mut("exception").and_then(toml::Value::as_array_mut);
                let mut tables = list.into_iter().flatten().filter_map(toml::Value::as_table_mut);
                let one = tables.find(|t| t.get("reason").and_then(toml::Value::as_str) == Some(reason.as_str()));
                join(one.ok_or_else(|| format!("no exception «{reason}»"))?, read(&line)?);
            }
        }
        Ok(whole
            .iter()
            .map(|(key, value)| format!("{key} = {}\n", inline(value)))
            .collect())
    }
}

/// A value as TOML has it on one line: strings are written there as in JSON.
fn inline(value: &toml::Value) -> String {
    match value {
        toml::Value::Array(list) => format!("[{}]", list.iter().map(inline).collect::<Vec<_>>().join(", ")),
        toml::Value::Table(table) => {
            let pairs = table.iter().map(|(key, value)| format!("{key} = {}", inline(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        toml::Value::String(text) => serde_json::Value::from(text.as_str()).to_string(),
        toml::Value::Integer(n) => n.to_string(),
        toml::Value::Float(n) => n.to_string(),
        toml::Value::Boolean(word) => word.to_string(),
        toml::Value::Datetime(day) => day.to_string(),
    }
}

fn join(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => join(old, new),
            (Some(toml::Value::Array(old)), toml::Value::Array(new)) => old.extend(new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Every refusal that prints a loosening, of every case: as the case is, and as if a pod's container were it.
#[test]
fn every_loosening_helps_as_it_is_printed_and_no_neighbour() -> Outcome<()> {
    let (mut failed, mut forms) = (Vec::new(), BTreeMap::new());
    for case in cases()? {
        // The third: of a container that has an exception already, as one of a table that a policy may have.
        for (of_pod, more) in [
            (false, ""),
            (true, ""),
            (true, "\n[[exception]]\nreason = \"one\"\nmatch.namespace = \"shop\"\n"),
        ] {
            let text = std::fs::read_to_string(case.join("policy.toml")).unwrap_or_default();
            let cri = if of_pod {
                "cri = \"containerd\"
"
            } else {
                ""
            };
            let text = format!("{cri}{text}{more}");
            let remedy = Remedy {
                policy: Some(text.clone()),
                set: if of_pod { pod() } else { BTreeMap::new() },
                ..Remedy::default()
            };
            // One that has a word of its own for it is a pod's already.
            let Ok(input) = Input::with(&case, &remedy) else {
                continue;
            };
            let Err(denial) = input.harden() else { continue };
            for change in denial.refusals() {
                let Some(lines) = change.remedy.as_deref().and_then(printed) else {
                    continue;
                };
                let form = match &lines {
                    Printed::Of(..) => "of the exception",
                    Printed::Lines(lines) if lines.starts_with("[[") => "exception",
                    Printed::Lines(_) => "second name",
                };
                *forms.entry(form).or_insert(0) += 1;
                let policy = Some(lines.into(&text)?);
                let here = format!(
                    "{} {:?} ({})",
                    case.display(),
                    change.code,
                    change.remedy.as_deref().unwrap_or("")
                );
                let again = |set: BTreeMap<String, serde_json::Value>| -> Outcome<bool> {
                    let remedy = Remedy {
                        policy: policy.clone(),
                        set,
                        ..Remedy::default()
                    };
                    let after = Input::with(&case, &remedy)
                        .map_err(|why| format!("{here}: {why}"))?
                        .harden();
                    Ok(after.err().is_some_and(|denial| {
                        denial
                            .refusals()
                            .any(|c| (&c.code, &c.path) == (&change.code, &change.path))
                    }))
                };
                if again(remedy.set.clone())? {
                    failed.push(here.clone());
                }
                if form == "exception" && of_pod {
                    let mut other = pod();
                    other.insert("/annotations/io.kubernetes.cri.container-name".into(), "other".into());
                    if !again(other)? {
                        failed.push(format!("{here}: a neighbour has it, too"));
                    }
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(forms.len() == 3 && forms.values().all(|n| *n > 0), "{forms:?}");
    Ok(())
}

/// What containerd's CRI plugin writes of a container.
fn pod() -> BTreeMap<String, serde_json::Value> {
    let words = [
        ("container-type", "container"),
        ("sandbox-id", "5a"),
        ("sandbox-namespace", "shop"),
        ("sandbox-name", "web-7d4b9c6f5d-x2v4k"),
        ("sandbox-uid", "11111111-2222-3333-4444-555555555555"),
        ("container-name", "web"),
        ("image-name", "registry.example/web:1"),
    ];
    let key = |word: &str| format!("/annotations/io.kubernetes.cri.{word}");
    words
        .into_iter()
        .map(|(word, value)| (key(word), value.into()))
        .collect()
}
