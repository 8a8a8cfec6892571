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
