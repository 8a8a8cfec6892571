//! A policy's bytes as text. What is no text is said with its place: a file that was damaged is looked for in an editor.

use super::validate::{Gravity, Problem, place};

/// Reads the bytes of a policy file as text.
///
/// # Errors
/// They are no text that could be a policy: not UTF-8, with NUL bytes in it, or nothing at all. An empty file is what a write leaves that was
/// interrupted: a policy that says nothing may have said much.
pub fn text(bytes: &[u8]) -> Result<&str, Problem> {
    let at = |before: &[u8], what: String| {
        let before = String::from_utf8_lossy(before);
        let (line, column) = place(&before, before.len());
        Problem {
            line,
            column,
            gravity: Gravity::Error,
            what,
            meant: None,
        }
    };
    // First: a file of zeros is UTF-8, too.
    if let Some(nul) = bytes.iter().position(|byte| *byte == 0) {
        let before = bytes.get(..nul).unwrap_or_default();
        return Err(at(
            before,
            "a NUL byte: this is no text, the file may be damaged".to_owned(),
        ));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if text.trim_start_matches('\u{feff}').trim().is_empty() => Err(at(
            &[],
            "the file is empty: it may be damaged; for all defaults remove it, or write level = \"hardened\""
                .to_owned(),
        )),
        Ok(text) => Ok(text),
        Err(error) => {
            let (before, rest) = bytes.split_at_checked(error.valid_up_to()).unwrap_or_default();
            let byte = rest.first().copied().unwrap_or_default();
            Err(at(before, format!("byte 0x{byte:02x} is not UTF-8 text")))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_said_with_its_place() {
        for (bytes, want) in [
            (&b""[..], "1:1: the file is empty"),
            (b" \n\t\n", "1:1: the file is empty"),
            (b"\xef\xbb\xbf\n", "1:1: the file is empty"),
            (&[0; 4096], "1:1: a NUL byte"),
            (b"level = \"hardened\"\nlo\0ck = true", "2:3: a NUL byte"),
            (b"level = \"hardened\"\n# \xc3\xa4 \xff", "2:5: byte 0xff is not UTF-8"),
            // UTF-16, as some editors write it.
            (b"\xff\xfel\x01e\x01", "1:1: byte 0xff is not UTF-8"),
        ] {
            let problem = text(bytes).unwrap_err();
            assert!(problem.to_string().starts_with(want), "{problem}");
        }
        assert!(text(b"# all defaults\n").is_ok());
    }
}
