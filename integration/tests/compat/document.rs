//! docs/RUNC-COMPAT.md says what this suite says.

use crate::cases;
use std::collections::BTreeSet;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/RUNC-COMPAT.md");

const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");

/// Rows of the table of fields: field, verdict, tests.
fn rows(text: &str) -> Vec<(String, String, Vec<String>)> {
    text.lines()
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let tests = cells
                .get(2)
                .copied()
                .unwrap_or_default()
                .split([',', ' '])
                .map(|t| t.trim_matches('`').to_owned());
            (
                cells[0].trim_matches('`').to_owned(),
                cells[1].to_owned(),
                tests.filter(|t| !t.is_empty() && t != "-").collect(),
            )
        })
        .collect()
}

/// The fields that a row is about, as JSON pointers with `[]` for any entry of a list: `a.b[].c, d` is `/a/b/[]/c` and its
/// sibling. What stands after a colon says which values are meant.
fn fields_of(row: &str) -> Vec<String> {
    let names = row.split(':').next().unwrap_or_default();
    let mut parent = "";
    let mut found = Vec::new();
    for name in names.split(", ") {
        let whole = if found.is_empty() {
            parent = name.rsplit_once('.').map_or("", |(parent, _)| parent);
            name.to_owned()
        } else {
            format!("{parent}.{name}")
        };
        found.push(format!("/{}", whole.replace("[]", ".[]").replace('.', "/")));
    }
    found
}

/// A case's pointer in the same form.
fn any_entry(pointer: &str) -> String {
    let parts = pointer.split('/').map(|part| {
        let entry = part == "-" || part.parse::<usize>().is_ok();
        if entry { "[]" } else { part }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Whether deleting `pointer` deletes this field, or something that is part of it.
fn is_about(pointer: &str, field: &str) -> bool {
    let pointer = any_entry(pointer);
    pointer == field || pointer.starts_with(&format!("{field}/"))
}

#[test]
fn rows_name_fields() {
    assert_eq!(fields_of("a.b[].c, d"), ["/a/b/[]/c", "/a/b/[]/d"]);
    assert_eq!(fields_of("mounts[].options: ro, rw"), ["/mounts/[]/options"]);
    assert!(is_about("/mounts/-/options/1", "/mounts/[]/options"));
    assert!(!is_about("/linux/resources/memory", "/linux/resources/memory/limit"));
    assert!(!is_about("/process/user/gid", "/process/user/g"));
}

#[test]
fn every_row_names_a_test_that_is_there() {
    let text = std::fs::read_to_string(DOCUMENT).unwrap();
    let rows = rows(&text);
    assert!(rows.len() > 60, "only {} rows", rows.len());
    let all = cases::all();
    let names: BTreeSet<&str> = all.iter().map(|c| c.name).collect();
    let mut wrong = Vec::new();
    for (field, verdict, tests) in &rows {
        if !["supported", "tightened", "refused", "error", "as runc"].contains(&verdict.as_str()) {
            wrong.push(format!("{field}: what is {verdict:?}?"));
        }
        // A test of another suite is named with its file.
        let own: Vec<&String> = tests.iter().filter(|t| !t.contains("::")).collect();
        wrong.extend(
            own.iter()
                .filter(|t| !names.contains(t.as_str()))
                .map(|t| format!("{field}: no test {t}")),
        );
        for (suite, file) in tests.iter().filter_map(|t| t.split_once("::")) {
            if !std::path::Path::new(TESTS)
                .join(suite)
                .join(format!("{file}.rs"))
                .exists()
            {
                wrong.push(format!("{field}: no file {suite}/{file}.rs"));
            }
        }
        if tests.is_empty() {
            wrong.push(format!("{field}: no test"));
        }
        // Not by a test of another suite, nor by a case that deletes something else: the runner must do it for this field.
        let deleted: Vec<&str> = all
            .iter()
            .filter(|case| tests.iter().any(|t| t == case.name))
            .filter_map(|case| case.field)
            .collect();
        if verdict == "supported" {
            let unproved = fields_of(field)
                .into_iter()
                .filter(|f| !deleted.iter().any(|pointer| is_about(pointer, f)));
            wrong.extend(unproved.map(|f| format!("{field}: no test that fails when {f} is deleted")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_deleted_field_has_a_row() {
    let text = std::fs::read_to_string(DOCUMENT).unwrap();
    let named: BTreeSet<String> = rows(&text).into_iter().flat_map(|(_, _, tests)| tests).collect();
    let missing: Vec<&str> = cases::all()
        .iter()
        .filter(|c| c.field.is_some() && !named.contains(c.name))
        .map(|c| c.name)
        .collect();
    assert!(missing.is_empty(), "no row names {missing:?}");
}

/// The runtime spec's fields for Linux (config.md and config-linux.md of 1.3), as rows may name them: whole, or by their parts.
const FIELDS: [&str; 67] = [
    "ociVersion",
    "process.terminal",
    "process.consoleSize",
    "process.cwd",
    "process.env",
    "process.args",
    "process.user.uid",
    "process.user.gid",
    "process.user.additionalGids",
    "process.user.umask",
    "process.capabilities.bounding",
    "process.capabilities.permitted",
    "process.capabilities.effective",
    "process.capabilities.inheritable",
    "process.capabilities.ambient",
    "process.rlimits",
    "process.noNewPrivileges",
    "process.oomScoreAdj",
    "process.scheduler",
    "process.ioPriority",
    "process.execCPUAffinity",
    "process.apparmorProfile",
    "process.selinuxLabel",
    "root.path",
    "root.readonly",
    "hostname",
    "domainname",
    "mounts[].options",
    "mounts[].uidMappings",
    "mounts[].gidMappings",
    "hooks.prestart",
    "hooks.createRuntime",
    "hooks.createContainer",
    "hooks.startContainer",
    "hooks.poststart",
    "hooks.poststop",
    "annotations",
    "linux.namespaces",
    "linux.timeOffsets",
    "linux.uidMappings",
    "linux.gidMappings",
    "linux.devices",
    "linux.cgroupsPath",
    "linux.resources.memory",
    "linux.resources.cpu",
    "linux.resources.pids",
    "linux.resources.blockIO",
    "linux.resources.hugepageLimits",
    "linux.resources.network",
    "linux.resources.rdma",
    "linux.resources.unified",
    "linux.resources.devices",
    "linux.sysctl",
    "linux.seccomp",
    "linux.seccomp.architectures",
    "linux.seccomp.flags",
    "linux.seccomp.listenerPath",
    "linux.seccomp.listenerMetadata",
    "linux.rootfsPropagation",
    "linux.maskedPaths",
    "linux.readonlyPaths",
    "linux.mountLabel",
    "linux.personality",
    "linux.intelRdt",
    "linux.memoryPolicy",
    "linux.netDevices",
    "linux.resources.cpu.burst",
];

#[test]
fn every_field_of_the_spec_has_a_row() {
    let text = std::fs::read_to_string(DOCUMENT).unwrap();
    let named: Vec<String> = rows(&text).iter().flat_map(|(field, _, _)| fields_of(field)).collect();
    let missing: Vec<&str> = FIELDS
        .into_iter()
        .filter(|field| {
            let pointer = fields_of(field).remove(0);
            !named.iter().any(|row| is_about(row, &pointer))
        })
        .collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
}
