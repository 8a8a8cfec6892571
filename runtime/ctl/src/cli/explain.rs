//! `explain`: what people have in their hands, and what to do about it: a code of a message, an errno or the whole message, an exit code, a
//! control, a system call, a capability.

use gabion_common::cli::output;
use gabion_core::capability;
use gabion_core::control::{CONTROLS, Control, capabilities};
use gabion_core::explain::symptoms::{SYMPTOMS, Symptom, symptom};
use gabion_core::explain::{self, Entry};
use gabion_core::policy::Level;
use gabion_core::policy::keys::nearest;
use gabion_see::error::{Error, Result};
use oci_spec::runtime::Capability;

use super::seccomp;
use crate::calls;
use crate::page::Page;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion explain mounts.host-path                (a code of a message)\n  \
    gabion explain 'sh: /tmp/x: Permission denied' (a message, or EACCES)\n  gabion explain 137                             (an exit code)\n  \
    gabion explain unshare                         (a system call)\n  gabion explain CAP_SYS_CHROOT                  (a capability)\n  \
    gabion explain seccomp                         (a control)\n  gabion explain                                 (all of it, a line each)\n\n\
    What one container may do, and who says no: `gabion can ID …`."
)]
pub(super) struct Args {
    /// A code, a message, an errno, an exit code, a control, a system call or a capability
    #[arg(value_name = "WORD")]
    words: Vec<String>,
}

impl Args {
    pub(super) fn run(self) -> Result<u8> {
        if self.words.is_empty() {
            output::print(&list())?;
            return Ok(0);
        }
        let word = self.words.join(" ");
        let text = told(&word).ok_or_else(|| {
            let near = near(&word).map(|near| format!("; did you mean {near}?"));
            Error::Usage(format!("nothing is known of {word:?}{}", near.unwrap_or_default()))
        })?;
        output::print(&text)?;
        Ok(0)
    }
}

/// What is known of a word, from what is the most exact to what is only like it.
fn told(word: &str) -> Option<String> {
    let bare = word.trim().trim_matches(['[', ']']);
    let exact = explain::all().find(|entry| entry.code == bare).map(entry_page);
    exact
        .or_else(|| {
            CONTROLS
                .iter()
                .find(|c| c.id().as_str() == bare)
                .map(|c| control_page(*c))
        })
        .or_else(|| symptom(bare).map(symptom_page))
        .or_else(|| capability_of(bare).map(capability_page))
        .or_else(|| calls::find(bare).map(|known| seccomp::page(&known)))
        .or_else(|| explain::find(bare).map(entry_page))
}

/// `CAP_SYS_CHROOT`, `sys_chroot`.
fn capability_of(word: &str) -> Option<Capability> {
    let upper = word.to_ascii_uppercase();
    // `kill`, `chown` and the like are calls, too: a capability is written in capitals, or with its prefix.
    (upper == word || upper.starts_with("CAP_")).then(|| capability::parse(&upper))?
}

fn near(word: &str) -> Option<String> {
    let calls = calls::names();
    let long: Vec<String> = capability::NAMES.iter().map(|name| format!("CAP_{name}")).collect();
    let words = SYMPTOMS.iter().flat_map(|symptom| symptom.words).copied();
    let all = explain::all()
        .map(|entry| entry.code)
        .chain(CONTROLS.iter().map(|control| control.id().as_str()))
        .chain(capability::NAMES)
        .chain(long.iter().map(String::as_str))
        .chain(words)
        .chain(calls.iter().map(String::as_str));
    nearest(word, all).map(str::to_owned)
}

fn entry_page(entry: &Entry) -> String {
    format!(
        "{}\n\n{}\n\nTo see it:   {}\n\nWhat helps:  {}\n",
        entry.code,
        entry.what,
        entry.see(),
        entry.loosen
    )
}

fn control_page(control: &dyn Control) -> String {
    let (id, about) = (control.id(), control.about());
    let codes = explain::all().filter(|e| {
        e.code
            .strip_prefix(id.as_str())
            .is_some_and(|rest| rest.starts_with('.'))
    });
    let codes: Vec<&str> = codes.map(|e| e.code).collect();
    format!(
        "{id}\n\nThreat:       {}\nRule:         {}\nEnforced by:  {}\nKernel:       {}\nReferences:   {}\nCodes:        {}\n",
        about.threat,
        about.rule,
        about.enforced_by,
        about.kernel_floor,
        about.refs.join("; "),
        codes.join(", ")
    )
}

fn symptom_page(symptom: &Symptom) -> String {
    let page = Page::of_stdout();
    let mut text = format!(
        "{}: {}. What it may be, the likeliest first:\n",
        symptom.words.join(", "),
        symptom.what
    );
    for (i, cause) in symptom.causes.iter().enumerate() {
        text.push_str(&format!("\n{:>2}. ", i + 1));
        match cause.entry() {
            None => page.fill(&mut text, 4, cause.tell),
            Some(entry) => {
                page.fill(&mut text, 4, &format!("{}. {}", entry.code, entry.what));
                text.push_str("    It is this where: ");
                page.fill(&mut text, 22, cause.tell);
                text.push_str("    What helps: ");
                page.fill(&mut text, 16, entry.loosen);
            }
        }
    }
    text
}

fn capability_page(cap: Capability) -> String {
    let kept = |level: Level| {
        if capabilities::is_kept(cap, level) {
            "kept"
        } else {
            "taken away"
        }
    };
    let by_engines = if capabilities::is_engine_default(cap) {
        "Engines give it to every container, so that it is taken away in silence."
    } else if capabilities::is_kept(cap, Level::Hardened) {
        "Engines give it to every container."
    } else {
        "Engines give it to nobody who does not ask, so that asking for it is refused (capabilities.not-allowed)."
    };
    let helps = if capabilities::is_kept(cap, Level::Hardened) {
        format!(
            "nothing at hardened; at restricted [capabilities] allow = [\"CAP_{cap}\"], best as `capabilities.allow` in an exception for that container"
        )
    } else {
        format!(
            "[capabilities] allow = [\"CAP_{cap}\"] in the policy, best as `capabilities.allow` in an exception for that container; and the spec must ask for it \
             (capabilities.add; --cap-add), where the engine does not by itself"
        )
    };
    format!(
        "CAP_{cap}: {} at hardened, {} at restricted. {by_engines}\n\nTo see it:   what needs it gives EPERM; `gabion can ID cap {cap}`; the sets are in /proc/PID/status (`capsh --decode`)\n\nWhat helps:  {helps}\n",
        kept(Level::Hardened),
        kept(Level::Restricted)
    )
}

/// Everything, a line each.
fn list() -> String {
    let mut rows: Vec<(&str, String)> = explain::all().map(|entry| (entry.code, first(entry.what))).collect();
    rows.sort_unstable();
    let controls = CONTROLS.iter().map(|c| (c.id().as_str(), first(c.about().rule)));
    let symptoms = SYMPTOMS
        .iter()
        .filter_map(|symptom| Some((*symptom.words.first()?, first(symptom.what))));
    let mut text = String::new();
    for (heading, rows) in [
        ("Codes of messages", rows.as_slice()),
        ("Controls", &controls.collect::<Vec<_>>()),
        ("What programs say", &symptoms.collect::<Vec<_>>()),
    ] {
        text.push_str(&format!("{heading}:\n"));
        for (name, line) in rows {
            text.push_str(&format!("  {name:<32} {line}\n"));
        }
        text.push('\n');
    }
    text + "Beside these every system call (unshare) and every capability (CAP_SYS_CHROOT).\n"
}

/// As much of a text as fits on a line beside its name.
fn first(text: &str) -> String {
    const ROOM: usize = 84;
    let sentence = text.split(". ").next().unwrap_or_default().trim_end_matches('.');
    if sentence.chars().count() <= ROOM {
        return sentence.to_owned();
    }
    let cut: String = sentence.chars().take(ROOM - 1).collect();
    let whole = cut.rsplit_once(' ').map_or(cut.as_str(), |(head, _)| head);
    format!("{}…", whole.trim_end_matches([',', ';', ':']))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_has_is_explained() {
        for (word, has) in [
            ("[mounts.host-path]", "mounts.host-path"),
            ("seccomp", "Threat:"),
            ("EACCES", "ordinary owner and mode"),
            ("sh: /tmp/x: Permission denied", "run.noexec"),
            ("126", "run.noexec"),
            ("137", "run.out-of-memory"),
            ("EPERM", "run.eperm"),
            ("EINVAL", "gabion's filters answer EINVAL to nothing"),
            ("unshare", "EPERM"),
            ("unshare()", "seccomp.allow"),
            ("CAP_SYS_CHROOT", "taken away at hardened"),
            ("SYS_CHROOT", "capabilities.allow"),
            ("cap_net_raw", "CAP_NET_RAW"),
            ("CHOWN", "kept at hardened, taken away at restricted"),
            ("chown", "let through"),
            ("noexec", "run.noexec"),
            ("step.mounts", "step.<step>"),
            ("Read-only file system", "run.read-only"),
            ("socket", "AF_ALG"),
            ("run.noexec", "To see it:"),
        ] {
            let text = told(word).unwrap_or_else(|| unreachable!("{word}"));
            assert!(text.contains(has), "{word}: {text}");
        }
        for (word, meant) in [
            ("seccom", "seccomp"),
            ("unshar", "unshare"),
            ("CAP_SYS_CHROT", "CAP_SYS_CHROOT"),
            ("mounts.host-pat", "mounts.host-path"),
            ("EACES", "EACCES"),
        ] {
            assert!(told(word).is_none(), "{word}");
            assert_eq!(near(word).as_deref(), Some(meant));
        }
        assert_eq!(near("something else entirely"), None);
    }

    #[test]
    fn the_list_has_a_line_for_each() {
        let text = list();
        for entry in explain::all() {
            let line = text.lines().find(|line| line.trim_start().starts_with(entry.code));
            assert!(
                line.is_some_and(|line| line.len() > entry.code.len() + 12),
                "{}",
                entry.code
            );
        }
        assert!(text.lines().all(|line| line.chars().count() <= 120));
    }
}
