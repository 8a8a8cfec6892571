//! A report as SARIF 2.1.0 (OASIS), which code scanning and SIEM tools take: a rule for each control, a result for each control of each
//! container.

use gabion_core::attest::State;
use gabion_core::control::CONTROLS;
use serde_json::{Value, json};

use super::{Reported, Whole};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// Makes the log.
pub(crate) fn render(whole: &Whole) -> Value {
    let results: Vec<Value> = whole.containers.iter().flat_map(results).collect();
    let notes = whole.failed.iter().map(|failed| {
        let text = format!("{}: could not be looked at: {}", failed.id, failed.error);
        json!({"level": "error", "message": {"text": text}})
    });
    let mut run = json!({
        "tool": {"driver": {
            "name": "gabion",
            "version": whole.tool,
            "semanticVersion": gabion_see::build::VERSION,
            "rules": rules(),
        }},
        "automationDetails": {"id": format!("gabion/report/{}", whole.time)},
        "invocations": [{
            "executionSuccessful": whole.failed.is_empty(),
            "endTimeUtc": whole.time,
            "toolExecutionNotifications": notes.collect::<Vec<_>>(),
        }],
        "results": results,
        "properties": {"notRunning": whole.not_running},
    });
    if let Some(one) = whole.containers.first() {
        run["invocations"][0]["machine"] = json!(one.attest.about.host);
    }
    json!({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})
}

fn rules() -> Vec<Value> {
    let rule = |control: &&dyn gabion_core::control::Control| {
        let about = control.about();
        json!({
            "id": control.id().as_str(),
            "name": control.id().as_str(),
            "shortDescription": {"text": about.rule},
            "fullDescription": {"text": format!("Against: {}. Enforced by: {}.", about.threat, about.enforced_by)},
            "defaultConfiguration": {"level": "error"},
            "properties": {"tags": about.refs},
        })
    };
    CONTROLS.iter().map(rule).collect()
}

/// What SARIF calls a state: its kind, and its level, which only a `fail` has.
const fn kind(state: State) -> (&'static str, &'static str) {
    match state {
        State::Holds | State::Held => ("pass", "none"),
        State::NoRule | State::NotAvailable => ("notApplicable", "none"),
        State::Loosened | State::Observed => ("fail", "warning"),
        State::Unknown => ("open", "none"),
        State::Differs => ("fail", "error"),
    }
}

fn results(one: &Reported) -> Vec<Value> {
    let (attest, about) = (&one.attest, &one.attest.about);
    let place = format!("{}/{}", about.root.display(), attest.id);
    let rows = attest.controls.iter().enumerate();
    rows.map(|(index, row)| {
        let (kind, level) = kind(row.state);
        let mut text = format!("{}: {} {}", attest.id, row.control, row.state.word());
        if !row.why.is_empty() {
            text = format!("{text}: {}", row.why.join("; "));
        }
        json!({
            "ruleId": row.control.as_str(),
            "ruleIndex": index,
            "kind": kind,
            "level": level,
            "message": {"text": text},
            "locations": [{"logicalLocations": [{"name": attest.id, "fullyQualifiedName": place, "kind": "container"}]}],
            "partialFingerprints": {"container/v1": format!("{}/{}/{}", about.boot, place, row.control)},
            "properties": {
                "state": row.state,
                "level": about.level,
                "policy": about.policy,
                "tags": row.refs,
                "attestSha256": one.attest_sha256,
                "auditHead": one.audit.head.as_ref().map(|head| &head.sha256),
            },
        })
    })
    .collect()
}
