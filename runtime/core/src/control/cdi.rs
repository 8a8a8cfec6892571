//! What CDI files vouch for, for the controls that judge devices, mounts and hooks.
//!
//! An item that equals an edit of a kind that the policy allows is the host's own word. One that differs is judged as if there were no file; where
//! it is then refused, the refusal names the edit and what differs.

use std::path::Path;

use oci_spec::runtime::{Hook, LinuxDevice, Mount};

use super::{Context, remedy};
use crate::cdi::{Edits, Likeness};
use crate::host::Source;

/// What the files have to say of one item.
pub(super) enum Word {
    /// It is an edit of an allowed kind, by this file for this device. With what may be done with it, if it is a node.
    Vouched {
        by: String,
        permissions: String,
    },
    /// It is for the place of such an edit and is not it.
    Differs(String),
    /// It is an edit of a kind that the policy does not allow.
    OfKind(String),
    Nothing,
}

/// Asks for a device node.
pub(super) fn node(device: &LinuxDevice, cx: &Context<'_>) -> Word {
    ask(cx, |edits| {
        let each = edits.device_nodes.iter();
        let each = each.map(|edit| (edit.likeness(device, &cx.host.cdi), edit.permissions().to_owned()));
        each.min_by_key(|(likeness, _)| rank(likeness))
    })
}

/// Asks for a mount, as the spec has it.
pub(super) fn mount(mount: &Mount, source: &Source, cx: &Context<'_>) -> Word {
    let word = ask(cx, |edits| {
        let each = edits.mounts.iter().map(|edit| (edit.likeness(mount), String::new()));
        each.min_by_key(|(likeness, _)| rank(likeness))
    });
    let path = mount.source().as_deref().unwrap_or(Path::new(""));
    unless_led_away(word, path, cx.host.cdi.leads_to(path, &source.real))
}

/// Asks for a hook.
pub(super) fn hook(stage: &str, hook: &Hook, cx: &Context<'_>) -> Word {
    let word = ask(cx, |edits| {
        let each = edits
            .hooks
            .iter()
            .map(|edit| (edit.likeness(stage, hook), String::new()));
        each.min_by_key(|(likeness, _)| rank(likeness))
    });
    unless_led_away(word, hook.path(), cx.host.cdi.is_roots(hook.path()))
}

/// How a refusal goes on where something differs.
pub(super) fn remedy(cx: &Context<'_>) -> &'static str {
    cx.request.caller().word(
        "ask for the device by its CDI name alone, and restart what made the spec if the host's CDI file has changed",
        "ask for the device by its CDI name alone (`--device vendor.com/class=name`)",
        "write it as the CDI file does",
    )
}

/// Says in a remedy how the kind of an item is allowed.
pub(super) fn allow(kind: &str, cx: &Context<'_>) -> String {
    remedy::allow(cx, "cdi.allow", kind)
}

/// Tells which files are not believed, for a refusal of what one of them might vouch for. Empty where the policy allows no kind.
pub(super) fn unbelieved(cx: &Context<'_>) -> String {
    if cx.policy.policy.cdi.allow.is_empty() {
        return String::new();
    }
    let files = cx.host.cdi.files.iter();
    let bad = files.filter_map(|file| Some((file, file.says.as_ref().err()?)));
    bad.map(|(file, why)| format!(" ({} is not believed: {why})", file.path.display()))
        .collect()
}

/// The fewer differences, the nearer.
fn rank(likeness: &Likeness) -> usize {
    match likeness {
        Likeness::Equal => 0,
        Likeness::Differs(count, _) => *count,
        Likeness::Unlike => usize::MAX,
    }
}

/// Asks each believed file. An edit that is equal counts before one that is only near, and an allowed kind before another.
fn ask(cx: &Context<'_>, nearest: impl Fn(&Edits) -> Option<(Likeness, String)>) -> Word {
    let (mut differs, mut of_kind): (Option<(usize, String)>, Option<String>) = (None, None);
    for (file, kind, name, edits) in cx.host.cdi.each() {
        let Some((likeness, permissions)) = nearest(edits) else {
            continue;
        };
        let allowed = cx.policy.policy.cdi.allow.iter().any(|allow| allow == kind);
        let by = || format!("{} for {name}", file.display());
        match likeness {
            Likeness::Equal if allowed => return Word::Vouched { by: by(), permissions },
            Likeness::Equal => of_kind = Some(kind.to_owned()),
            Likeness::Differs(count, how) if allowed => {
                if differs.as_ref().is_none_or(|(known, _)| count < *known) {
                    differs = Some((count, format!("it looks like what {} has, and {how}", by())));
                }
            }
            Likeness::Differs(..) | Likeness::Unlike => {}
        }
    }
    match (differs, of_kind) {
        (Some((_, how)), _) => Word::Differs(how),
        (None, Some(kind)) => Word::OfKind(kind),
        (None, None) => Word::Nothing,
    }
}

/// What a file names by path is the host's word only where nobody but root chooses what that is.
fn unless_led_away(word: Word, path: &Path, roots: bool) -> Word {
    match word {
        Word::Vouched { by, .. } if !roots => Word::Differs(format!(
            "{by} names {}, and others than root can change what that path leads to",
            path.display()
        )),
        word => word,
    }
}
