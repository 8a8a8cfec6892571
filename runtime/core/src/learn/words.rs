//! The outcome in words, for people.

use std::fmt::Write as _;
use std::path::Path;

use super::{Change, Denied, Hole, Loosening, Port, Seen, Volume, Written, ready};
use crate::policy::Level;
use crate::printable::printable;
use crate::size::{Size, in_words};

/// What a level says: the codes that refuse it, with their reasons.
pub type Says = (Level, Vec<(String, String)>);

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy()).to_string()
}

/// The whole report.
pub fn report(seen: &Seen, needs: &Loosening, levels: &[Says]) -> String {
    let mut out = verdict(needs, levels);
    out.push_str(&needed(needs));
    out.push_str(&cannot(seen, needs));
    out.push_str(&lines(needs));
    out.push_str(&what_was_seen(seen));
    out
}

/// The highest level that it reaches, and what keeps it from a higher one.
fn verdict(needs: &Loosening, levels: &[Says]) -> String {
    let as_it_is = |level: Level| {
        if needs.is_empty() && !(needs.jit && level == Level::Restricted) {
            "as it is"
        } else {
            "with the following"
        }
    };
    let runs = |(level, refused): &&Says| {
        refused.is_empty() && !(*level == Level::Restricted && needs.volumes.iter().any(|v| v.exec))
    };
    let mut out = match levels.iter().find(runs) {
        Some((level, _)) => format!("It runs at {level}, {}.\n", as_it_is(*level)),
        None if levels.is_empty() && needs.is_empty() => "Beyond level hardened it needs nothing.\n".to_owned(),
        None if levels.is_empty() => "Beyond level hardened it needs the following.\n".to_owned(),
        None => {
            "It does not run at hardened: what the spec asks for is refused, whatever the program does.\n".to_owned()
        }
    };
    for (level, refused) in levels {
        for (code, why) in refused {
            writeln!(out, "  {level} refuses [{code}]: {}", printable(why)).unwrap_or_default();
        }
    }
    out
}

fn hole(hole: &Hole) -> String {
    let mut words = format!("a hole at {}", shown(&hole.path));
    if let Some(size) = hole.size {
        write!(words, " of {}", Size(size)).unwrap_or_default();
    }
    if let Some(mode) = hole.mode {
        write!(words, ", mode {mode:o}").unwrap_or_default();
    }
    if hole.data {
        words.push_str("; a volume in its place where the data should stay");
    }
    words
}

fn volume(volume: &Volume) -> String {
    let path = shown(&volume.path);
    match (volume.mounted, volume.exec, volume.empty) {
        (true, ..) => format!("the mount at {path} executable: a program is run from there"),
        (false, true, _) => format!("{path} as a mount of its own that is executable: a program is run from there"),
        (false, false, true) => format!("an empty mount at {path}: what the image has there is somebody else's"),
        (false, false, false) => format!("a mount at {path}"),
    }
}

fn needed(needs: &Loosening) -> String {
    let mut all: Vec<String> = needs.holes.iter().map(hole).collect();
    all.extend(needs.volumes.iter().map(volume));
    all.extend(needs.capabilities.iter().map(|name| format!("CAP_{name}")));
    all.extend(
        needs
            .sysctls
            .iter()
            .map(|(name, value)| format!("the sysctl {name}={value}")),
    );
    all.extend(
        needs
            .seccomp
            .iter()
            .map(|group| format!("the calls of {}, which gabion's filters refuse", group.as_str())),
    );
    all.extend(
        needs
            .sockets
            .iter()
            .map(|word| format!("sockets of {word}, which gabion's filters refuse")),
    );
    if needs.memfd {
        all.push("to execute what has no name (memfd_create)".to_owned());
    }
    if needs.jit {
        all.push(
            "at restricted alone, memory.mdwe = \"observe\": it executes memory that it has written (a JIT compiler)"
                .to_owned(),
        );
    }
    all.iter().map(|need| format!("  needs {need}\n")).collect()
}

fn cannot(seen: &Seen, needs: &Loosening) -> String {
    let mut out = String::new();
    for one in &needs.impossible {
        writeln!(out, "  cannot have {}: {}", shown(&one.path), one.why).unwrap_or_default();
    }
    for call in seen.closed_for_good() {
        writeln!(
            out,
            "  cannot have the call {call}: only a lower level, or seccomp on observe, lets it through"
        )
        .unwrap_or_default();
    }
    for call in seen.has_another_way() {
        writeln!(
            out,
            "  goes without {call}: it is told that the kernel has no such call, and programs have another way"
        )
        .unwrap_or_default();
    }
    for cache in &needs.spared {
        writeln!(out, "  goes without {}: a cache beside the code", shown(cache)).unwrap_or_default();
    }
    for name in &seen.sysctls {
        writeln!(
            out,
            "  cannot write the sysctl {}: set it in the spec, where it is a namespaced one",
            printable(name)
        )
        .unwrap_or_default();
    }
    if !out.is_empty() {
        out.push_str("  (whether it does without is what --prove tells)\n");
    }
    out
}

/// Words of a command line.
fn line(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| ready::quoted(word)).collect();
    words.join(" ")
}

fn lines(needs: &Loosening) -> String {
    let mut out = String::new();
    let (podman, docker) = (ready::podman(needs), ready::docker(needs));
    if let Some(value) = ready::annotation(needs, ",") {
        writeln!(out, "\nannotation  dev.gabion.holes = {value}").unwrap_or_default();
    }
    if !podman.is_empty() {
        writeln!(out, "podman      {}\ndocker      {}", line(&podman), line(&docker)).unwrap_or_default();
    }
    let keys = ready::keys(needs);
    if !keys.is_empty() {
        out.push_str(
            "policy      what no line says, and for a pod: in an exception, or under a second name of the runtime\n",
        );
        for (key, value) in keys {
            writeln!(out, "            {key} = {value}").unwrap_or_default();
        }
    }
    for hole in needs.holes.iter().filter(|hole| !hole.can_be_said()) {
        writeln!(
            out,
            "            {} cannot be written in an annotation: mount a volume there",
            shown(&hole.path)
        )
        .unwrap_or_default();
    }
    out
}

/// Who cannot do what.
pub fn denied(denied: &Denied) -> String {
    match denied {
        Denied::Missing { dir, uid } => format!(
            "uid {uid} could not write to {}: there is no such directory",
            shown(dir)
        ),
        Denied::Foreign { dir, uid } => {
            format!("uid {uid} could not write to {}, another user's directory", shown(dir))
        }
        Denied::ForeignFile { file, uid } => format!("uid {uid} could not write {}, another user's file", shown(file)),
        Denied::ReadOnly { dir, uid } => format!("uid {uid} could not write to {}, which is read-only", shown(dir)),
        Denied::NoExec { path } => format!(
            "{} could not be executed: it lies where nothing is executable",
            shown(path)
        ),
        Denied::Port(port) => format!("port {port} could not be bound without NET_BIND_SERVICE"),
        Denied::Capability { name, call } => format!("{call} could not be called without CAP_{name}"),
    }
}

fn change(path: &Path, what: &Written) -> String {
    let word = match what.change {
        Change::Created => "created",
        Change::Changed => "changed",
        Change::Deleted => "deleted",
        Change::Entries => "written in",
    };
    format!(
        "  {word:10} {} ({}, {}:{}, {:o})",
        shown(path),
        in_words(what.size),
        what.uid,
        what.gid,
        what.mode
    )
}

/// So many lines of one kind are printed; the record has all.
const MOST: usize = 20;

fn listed(out: &mut String, heading: &str, lines: impl ExactSizeIterator<Item = String>) {
    let count = lines.len();
    if count == 0 {
        return;
    }
    writeln!(out, "{heading} ({count}):").unwrap_or_default();
    for line in lines.take(MOST) {
        writeln!(out, "{line}").unwrap_or_default();
    }
    if count > MOST {
        writeln!(out, "  … {} more (--format json)", count - MOST).unwrap_or_default();
    }
}

fn what_was_seen(seen: &Seen) -> String {
    let mut out = format!(
        "\nSeen in {} run{}:\n",
        seen.runs,
        if seen.runs == 1 { "" } else { "s" }
    );
    listed(
        &mut out,
        "below the root",
        seen.written.iter().map(|(path, what)| change(path, what)),
    );
    let programs: Vec<String> = seen.programs.iter().map(|path| format!("  {}", shown(path))).collect();
    listed(&mut out, "programs", programs.into_iter());
    let port = |port: &Port| match port {
        Port::Inet(number) => format!("  port {number}"),
        Port::Unix(name) => format!("  {}", printable(name)),
    };
    listed(&mut out, "bound", seen.binds.iter().map(port));
    listed(&mut out, "connected to", seen.connects.iter().map(port));
    let used = |(name, calls): (&String, &std::collections::BTreeSet<String>)| {
        format!(
            "  CAP_{name} ({})",
            calls.iter().cloned().collect::<Vec<_>>().join(", ")
        )
    };
    listed(
        &mut out,
        "capabilities beyond those that hardened keeps",
        seen.capabilities.iter().map(used),
    );
    listed(
        &mut out,
        "could not be done at any level",
        seen.denied.iter().map(|one| format!("  {}", denied(one))),
    );
    if let Some(calls) = &seen.calls {
        writeln!(out, "system calls: {} different ones", calls.len()).unwrap_or_default();
    }
    if let (Some(memory), Some(tasks)) = (seen.memory_peak, seen.tasks_peak) {
        writeln!(out, "at the most: {} of memory, {tasks} tasks", in_words(memory)).unwrap_or_default();
    }
    for what in &seen.unseen {
        writeln!(out, "not seen: {}", printable(what)).unwrap_or_default();
    }
    out
}
