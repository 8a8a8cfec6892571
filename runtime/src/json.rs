//! JSON to bytes, where much of it is written.
//!
//! serde_json writes token by token, most of them a few bytes long. For each a `Vec` asks libc to copy, which costs more than the bytes do:
//! here short ones go over in moves of a fixed length.

use std::io::{Result, Write};

use serde::Serialize;

/// `value`, compact. `room` is about how many bytes it will be.
///
/// # Errors
/// A value that JSON cannot hold.
pub fn to_vec(value: &impl Serialize, room: usize) -> serde_json::Result<Vec<u8>> {
    let mut text = Text(Vec::with_capacity(room));
    serde_json::to_writer(&mut text, value)?;
    Ok(text.0)
}

struct Text(Vec<u8>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        /// Longer than nearly all tokens.
        const SHORT: usize = 32;
        if bytes.len() > SHORT {
            self.0.extend_from_slice(bytes);
            return Ok(());
        }
        let (eights, rest) = bytes.as_chunks::<8>();
        for eight in eights {
            self.0.extend_from_slice(eight);
        }
        for byte in rest {
            self.0.push(*byte);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    #[test]
    fn it_is_what_serde_json_writes() {
        for length in [0, 1, 7, 8, 9, 31, 32, 33, 40, 1000] {
            let value = serde_json::json!({"a": "x".repeat(length), "é\"\n": [1, null, true, -0.5], "z": {}});
            assert_eq!(super::to_vec(&value, 8).unwrap(), serde_json::to_vec(&value).unwrap());
        }
    }
}
