//! Pages for people: words wrapped at the terminal's width, below the column that they begin in.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use gabion_common::cli::output::clean;

/// How a page looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) colour: bool,
    pub(crate) width: usize,
}

impl Page {
    /// Of stdout: its width where it is a terminal, else 100 columns.
    pub(crate) fn of_stdout() -> Self {
        let out = io::stdout();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let width = gabion_sys::window_size(out.as_fd())
            .ok()
            .map(|(_, columns)| usize::from(columns));
        Self {
            colour: out.is_terminal() && !plain,
            width: width.filter(|columns| *columns > 0).unwrap_or(100).clamp(60, 200),
        }
    }

    /// Adds words as [`fill`] does, at this page's width.
    pub(crate) fn fill(&self, text: &mut String, start: usize, words: &str) {
        fill(text, start, words, self.width);
    }

    /// Pads a word and paints it (SGR `code`). Padded first: the escapes have no width.
    pub(crate) fn paint(&self, word: &str, code: &str, width: usize) -> String {
        if self.colour {
            format!("\x1b[{code}m{word:width$}\x1b[0m")
        } else {
            format!("{word:width$}")
        }
    }
}

/// Adds words from column `start` on, where the line is already that far, wrapped below it, and ends the line.
pub(crate) fn fill(text: &mut String, start: usize, words: &str, width: usize) {
    let (room, mut used) = (width.saturating_sub(start).max(20), 0);
    for word in clean(words).split_whitespace() {
        // A word longer than a line is broken: a path or a digest of somebody else's choosing.
        for part in parts(word, room) {
            let length = part.chars().count();
            if used > 0 && used + 1 + length > room {
                text.push('\n');
                text.push_str(&" ".repeat(start));
                used = 0;
            }
            if used > 0 {
                text.push(' ');
                used += 1;
            }
            text.push_str(&part);
            used += length;
        }
    }
    text.push('\n');
}

fn parts(word: &str, room: usize) -> Vec<String> {
    let letters: Vec<char> = word.chars().collect();
    letters.chunks(room).map(|part| part.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_the_page() {
        let page = Page {
            colour: false,
            width: 60,
        };
        let mut text = "x".repeat(20);
        page.fill(
            &mut text,
            20,
            &format!("{} and {}\x1b[2J", "a word ".repeat(30), "f".repeat(130)),
        );
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert!(!text.contains('\x1b') && text.ends_with('\n'), "{text}");
    }
}
