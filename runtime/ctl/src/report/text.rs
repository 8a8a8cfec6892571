//! A report as a page of text.

use gabion_core::report::{Framework, Outcome};

use super::{Reported, Whole};
use crate::page::Page;

const NAME: usize = 38;
const OUTCOME: usize = 16;

/// Writes the page.
pub(crate) fn render(whole: &Whole, page: Page) -> String {
    let mut text = format!("gabion report, {}, by gabion {}\n", whole.time, whole.tool);
    for one in &whole.containers {
        text.push('\n');
        container(&mut text, one, page);
    }
    for id in &whole.not_running {
        page.fill(&mut text, 0, &format!("{id}: does not run"));
    }
    for failed in &whole.failed {
        page.fill(
            &mut text,
            0,
            &format!("{}: could not be looked at: {}", failed.id, failed.error),
        );
    }
    text
}

fn container(text: &mut String, one: &Reported, page: Page) {
    for (name, value) in super::about(one) {
        text.push_str(&format!("{name:14}"));
        page.fill(text, 14, &value);
    }
    for framework in Framework::ALL {
        let of = one.requirements.iter().filter(|r| r.framework == framework);
        text.push_str(&format!("\n{}\n", framework.name()));
        for requirement in of {
            text.push_str(&format!("  {:width$}", requirement.name, width = NAME - 2));
            text.push_str(&page.paint(requirement.outcome.word(), colour(requirement.outcome), OUTCOME));
            let controls: Vec<&str> = requirement.controls.iter().map(|id| id.as_str()).collect();
            page.fill(text, NAME + OUTCOME, &controls.join(", "));
            for why in &requirement.why {
                text.push_str("    ");
                page.fill(text, 4, why);
            }
        }
    }
    text.push_str("\nEvidence\n");
    for line in super::evidence(one) {
        text.push_str("  ");
        page.fill(text, 2, &line);
    }
}

const fn colour(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Met => "32",
        Outcome::NotApplicable | Outcome::NotAsked => "2",
        Outcome::Partly | Outcome::Open | Outcome::NotInForce => "33",
        Outcome::Violated => "1;31",
    }
}
