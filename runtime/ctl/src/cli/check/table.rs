//! check's table: one block for each change, what was kept in one line at the end.

use super::{Report, Row};
use crate::page;
use gabion_common::cli::output::clean;
use gabion_core::decision::{Change, Mode, Verdict};

/// Widths of the first two columns: `capabilities`, `would tighten`.
const CONTROL: usize = 14;
const VERDICT: usize = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    None,
    Ansi,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) colour: Colour,
    pub(super) width: usize,
}

pub(super) fn render(heading: &str, report: &Report, style: &Style) -> String {
    let mut text = format!(
        "{}\n\n{:CONTROL$}{:VERDICT$}CHANGE\n",
        clean(heading),
        "CONTROL",
        "VERDICT"
    );
    for row in &report.decisions {
        let mut control = row.control.as_str();
        for (change, likewise) in grouped(&row.changes) {
            block(&mut text, control, change, row.mode, style);
            if !likewise.is_empty() {
                indented(&mut text, &format!("likewise: {}", likewise.join(", ")), style.width);
            }
            control = "";
        }
    }
    let kept: Vec<&str> = report
        .decisions
        .iter()
        .filter(|row| row.verdict == Verdict::Kept)
        .map(|row| row.control.as_str())
        .collect();
    if !kept.is_empty() {
        let verdict = paint("kept", Verdict::Kept, style);
        text.push_str(&" ".repeat(CONTROL));
        text.push_str(&verdict);
        fill(&mut text, &kept.join(", "), 0, style.width);
    }
    text.push('\n');
    text.push_str(&summary(report));
    text
}

/// The same without what was kept, and without a head of columns: for one of many.
pub(super) fn render_brief(heading: &str, report: &Report, style: &Style) -> String {
    let mut text = format!("{}: {}", clean(heading), summary(report));
    for row in &report.decisions {
        for (change, likewise) in grouped(&row.changes) {
            block(&mut text, &row.control, change, row.mode, style);
            if !likewise.is_empty() {
                indented(&mut text, &format!("likewise: {}", likewise.join(", ")), style.width);
            }
        }
    }
    text
}

/// Changes that a person should see. Of many refusals with one code (a privileged container's capabilities) the first
/// stands for all, with the others' paths; `--format json` has each.
fn grouped(changes: &[Change]) -> Vec<(&Change, Vec<&str>)> {
    /// So many of one code are still shown one by one.
    const FEW: usize = 3;
    let mut shown: Vec<(&Change, Vec<&str>)> = Vec::new();
    for change in changes.iter().filter(|c| c.verdict != Verdict::Kept) {
        let same = |other: &&Change| change.code.is_some() && other.code == change.code;
        let many = changes.iter().filter(same).count() > FEW;
        match shown.iter_mut().find(|(first, _)| many && same(first)) {
            Some((_, likewise)) => likewise.push(&change.path),
            None => shown.push((change, Vec::new())),
        }
    }
    shown
}

/// How much the lines under a change are set in.
const INDENT: usize = 2;

/// One change: what, then why, then what to do about it.
fn block(text: &mut String, control: &str, change: &Change, mode: Mode, style: &Style) {
    let verdict = paint(change.verdict.word(mode), change.verdict, style);
    text.push_str(control);
    text.push_str(&" ".repeat(CONTROL.saturating_sub(control.len())));
    text.push_str(&verdict);
    let head = match (&change.from, &change.to) {
        (Some(from), Some(to)) => format!("{}: {from} → {to}", change.path),
        (None, Some(to)) => format!("{}: {to}", change.path),
        _ => change.path.clone(),
    };
    fill(text, &head, 0, style.width);
    let reason = match &change.code {
        Some(code) => format!("[{code}] {}", change.reason),
        None => change.reason.clone(),
    };
    indented(text, &reason, style.width);
    if let Some(remedy) = &change.remedy {
        indented(text, &format!("remedy: {remedy}"), style.width);
    }
}

fn indented(text: &mut String, words: &str, width: usize) {
    text.push_str(&" ".repeat(CONTROL + VERDICT + INDENT));
    fill(text, words, INDENT, width);
}

/// Words from the third column on, wrapped below it.
fn fill(text: &mut String, words: &str, indent: usize, width: usize) {
    page::fill(text, CONTROL + VERDICT + indent, words, width);
}

/// Padded first: the escapes have no width.
fn paint(word: &str, verdict: Verdict, style: &Style) -> String {
    let code = match verdict {
        Verdict::Kept => "2",
        Verdict::Added => "36",
        Verdict::Tightened => "32",
        Verdict::Warned => "33",
        Verdict::Refused => "1;31",
    };
    match style.colour {
        Colour::None => format!("{word:VERDICT$}"),
        Colour::Ansi => format!("\x1b[{code}m{word:VERDICT$}\x1b[0m"),
    }
}

fn summary(report: &Report) -> String {
    let count = |verdict| {
        report
            .decisions
            .iter()
            .filter(|row| row.verdict == verdict && row.mode == Mode::Enforce)
            .count()
    };
    let observed = |row: &&Row| row.mode == Mode::Observe && row.verdict != Verdict::Kept;
    let mut parts: Vec<String> = [
        (Verdict::Refused, "refused"),
        (Verdict::Tightened, "tightened"),
        (Verdict::Added, "added"),
        (Verdict::Warned, "warned of"),
    ]
    .into_iter()
    .map(|(verdict, name)| (count(verdict), name))
    .filter(|(count, _)| *count > 0)
    .map(|(count, name)| format!("{count} {name}"))
    .collect();
    let only = report.decisions.iter().filter(observed).count();
    if only > 0 {
        parts.push(format!("{only} only observed"));
    }
    let outcome = if report.allowed {
        "would run"
    } else {
        "would be REFUSED"
    };
    if parts.is_empty() {
        parts.push("nothing to change".to_owned());
    }
    format!(
        "{outcome}: {} ({} controls)\n",
        parts.join(", "),
        report.decisions.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use gabion_core::policy::Level;

    fn change(verdict: Verdict, path: &str) -> Change {
        Change {
            verdict,
            path: path.to_owned(),
            from: Some("a".to_owned()),
            to: Some("b".to_owned()),
            reason: "because of words that go on and on ".repeat(5),
            code: (verdict == Verdict::Refused).then(|| "mounts.host-path".to_owned()),
            remedy: (verdict == Verdict::Refused).then(|| "do not".to_owned()),
        }
    }

    fn report(mode: Mode) -> Report {
        let row = |control: &str, verdict, changes| Row {
            control: control.to_owned(),
            verdict,
            mode,
            path: None,
            from: None,
            to: None,
            reason: None,
            refs: Vec::new(),
            changes,
        };
        Report {
            level: Level::Hardened,
            allowed: mode == Mode::Observe,
            decisions: vec![
                row("user", Verdict::Kept, Vec::new()),
                row(
                    "mounts",
                    Verdict::Refused,
                    vec![change(Verdict::Tightened, "/a"), change(Verdict::Refused, "/b\x1b[2J")],
                ),
            ],
        }
    }

    #[test]
    fn lines_fit_and_escapes_do_not_pass() {
        let style = Style {
            colour: Colour::None,
            width: 80,
        };
        let text = render("bundle", &report(Mode::Enforce), &style);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(!text.contains('\x1b') && text.contains("/b\\u{1b}[2J: a → b"), "{text}");
        assert!(text.contains("mounts        tightened      /a: a → b\n"), "{text}");
        assert!(
            text.contains("[mounts.host-path]") && text.contains("remedy: do not"),
            "{text}"
        );
        assert!(text.ends_with("would be REFUSED: 1 refused (2 controls)\n"), "{text}");
    }

    #[test]
    fn many_of_one_code_are_one_block() {
        let paths = ["/a", "/b", "/c", "/d"];
        let changes: Vec<Change> = paths.iter().map(|p| change(Verdict::Refused, p)).collect();
        assert_eq!(grouped(&changes[..3]).len(), 3);
        let all = grouped(&changes);
        assert_eq!((all.len(), all[0].1.as_slice()), (1, ["/b", "/c", "/d"].as_slice()));
    }

    #[test]
    fn what_is_observed_says_would() {
        let style = Style {
            colour: Colour::Ansi,
            width: 80,
        };
        let text = render("bundle", &report(Mode::Observe), &style);
        assert!(text.contains("\x1b[1;31mwould refuse   \x1b[0m"), "{text}");
        assert!(text.ends_with("would run: 1 only observed (2 controls)\n"), "{text}");
    }
}
