//! A report as one HTML page: no script, nothing loaded from elsewhere. Every word of it is escaped: names and paths may be a container's own,
//! and hostile.

use std::fmt::Write as _;

use gabion_common::cli::output::clean;
use gabion_core::attest::{State, Verdict};
use gabion_core::report::{Framework, Outcome};

use super::{Reported, Whole};

const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
<title>gabion report</title>\n<style>\nbody{font:15px/1.45 sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#222}\n\
table{border-collapse:collapse;width:100%;margin:.5em 0 1.5em}th,td{text-align:left;vertical-align:top;padding:.3em .6em;border-bottom:1px solid #ddd;overflow-wrap:anywhere}\n\
th{background:#f4f4f4}.good{color:#14692a}.quiet{color:#666}.warn{color:#8a5a00;font-weight:bold}.bad{color:#b00020;font-weight:bold}\n\
code{font-size:90%}\n</style>\n</head>\n<body>\n";

/// Escapes text for an element or an attribute, after whatever does not print.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Writes the page.
pub(crate) fn render(whole: &Whole) -> String {
    let mut page = HEAD.to_owned();
    add(
        &mut page,
        format_args!(
            "<h1>gabion report</h1>\n<p>{}, by gabion {}</p>\n",
            escape(&whole.time),
            escape(whole.tool)
        ),
    );
    for one in &whole.containers {
        container(&mut page, one);
    }
    for id in &whole.not_running {
        add(
            &mut page,
            format_args!("<p>{} does not run.</p>\n", escape(id.as_str())),
        );
    }
    for failed in &whole.failed {
        add(
            &mut page,
            format_args!(
                "<p class=\"bad\">{} could not be looked at: {}</p>\n",
                escape(failed.id.as_str()),
                escape(&failed.error)
            ),
        );
    }
    page.push_str("</body>\n</html>\n");
    page
}

/// Writing into a string cannot fail.
fn add(page: &mut String, what: std::fmt::Arguments<'_>) {
    page.write_fmt(what).unwrap_or_default();
}

fn container(page: &mut String, one: &Reported) {
    let (class, word) = match one.attest.verdict {
        Verdict::Holds => ("good", "holds"),
        Verdict::Incomplete => ("warn", "incomplete"),
        Verdict::Differs => ("bad", "DIFFERS"),
    };
    add(
        page,
        format_args!(
            "<h2>{} <span class=\"{class}\">{word}</span></h2>\n<table>\n",
            escape(&one.attest.id)
        ),
    );
    for (name, value) in super::about(one) {
        add(
            page,
            format_args!("<tr><th>{}</th><td>{}</td></tr>\n", escape(name), escape(&value)),
        );
    }
    page.push_str("</table>\n");
    for framework in Framework::ALL {
        add(
            page,
            format_args!(
                "<h3>{}</h3>\n<table>\n<tr><th>requirement</th><th>outcome</th><th>controls</th><th>why</th></tr>\n",
                escape(framework.name())
            ),
        );
        for requirement in one.requirements.iter().filter(|r| r.framework == framework) {
            let controls: Vec<&str> = requirement.controls.iter().map(|id| id.as_str()).collect();
            row(
                page,
                [&requirement.name, &controls.join(", "), &requirement.why.join("; ")],
                requirement.outcome,
            );
        }
        page.push_str("</table>\n");
    }
    controls(page, one);
    page.push_str("<h3>Evidence</h3>\n<ul>\n");
    for line in super::evidence(one) {
        add(page, format_args!("<li><code>{}</code></li>\n", escape(&line)));
    }
    page.push_str("</ul>\n");
}

fn row(page: &mut String, [name, controls, why]: [&str; 3], outcome: Outcome) {
    let class = match outcome {
        Outcome::Met => "good",
        Outcome::NotApplicable | Outcome::NotAsked => "quiet",
        Outcome::Partly | Outcome::Open | Outcome::NotInForce => "warn",
        Outcome::Violated => "bad",
    };
    add(
        page,
        format_args!(
            "<tr><td>{}</td><td class=\"{class}\">{}</td><td>{}</td><td>{}</td></tr>\n",
            escape(name),
            escape(outcome.word()),
            escape(controls),
            escape(why)
        ),
    );
}

fn controls(page: &mut String, one: &Reported) {
    page.push_str("<h3>Controls</h3>\n<table>\n<tr><th>control</th><th>state</th><th>why</th></tr>\n");
    for control in &one.attest.controls {
        let class = match control.state {
            State::Holds | State::Held => "good",
            State::NoRule => "quiet",
            State::NotAvailable | State::Loosened | State::Observed | State::Unknown => "warn",
            State::Differs => "bad",
        };
        add(
            page,
            format_args!(
                "<tr><td>{}</td><td class=\"{class}\">{}</td><td>{}</td></tr>\n",
                escape(control.control.as_str()),
                escape(control.state.word()),
                escape(&control.why.join("; "))
            ),
        );
    }
    page.push_str("</table>\n");
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn nothing_of_a_name_is_markup() {
        let name = "</td><script>alert('x')</script>\"&\u{1b}[2J\u{202e}";
        let escaped = escape(name);
        assert!(
            !escaped.contains(['<', '>', '"', '\'', '\u{1b}', '\u{202e}']),
            "{escaped}"
        );
        assert!(
            escaped.starts_with("&lt;/td&gt;&lt;script&gt;alert(&#39;x&#39;)"),
            "{escaped}"
        );
    }
}
