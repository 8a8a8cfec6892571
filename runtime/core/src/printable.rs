//! Words of others in what a person reads: they may come from a config.json, an image or a container.

use std::borrow::Cow;

/// The text with whatever would move a cursor, forge a line or turn the order of reading around shown as its escape
/// (CWE-150; the signs that turn the order: Unicode UAX #9, CVE-2021-42574).
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if acts(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// The same in one line whose white space is blanks.
pub fn one_line(text: &str) -> String {
    printable(&text.replace(['\n', '\t'], " ")).into_owned()
}

/// Cuts a long text in its middle: what was refused stands at its start, the remedy at its end.
pub fn within(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let start = text.floor_char_boundary(most / 4 * 3);
    let end = text.ceil_char_boundary(text.len() - most / 4);
    Cow::Owned(format!("{} … {}", &text[..start], &text[end..]))
}

/// Whether it does something instead of being shown.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_both_its_ends() {
        assert!(matches!(within("abcd", 4), Cow::Borrowed("abcd")));
        assert_eq!(within("abcdefghij", 4), "abc … j");
        assert_eq!(within("ääääää", 8), "äää … ä");
    }

    #[test]
    fn what_acts_is_escaped_and_the_rest_stays() {
        assert!(matches!(printable("größe /a b"), Cow::Borrowed("größe /a b")));
        assert_eq!(
            printable("a\u{1b}[31m\u{7f}\u{85}\nb"),
            "a\\u{1b}[31m\\u{7f}\\u{85}\\nb"
        );
        assert_eq!(printable("/etc/\u{202e}fdp\u{2028}x"), "/etc/\\u{202e}fdp\\u{2028}x");
        assert_eq!(one_line("a\tb\nc\rd"), "a b c\\rd");
    }
}
