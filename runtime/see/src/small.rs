//! Files of the kernel's own, in /proc and in cgroups: they say no size, and std would ask for it and then read by bits of 32 bytes.

use std::fs::File;
use std::io::{Read, Result};
use std::path::Path;

/// Larger than nearly all of them.
const USUAL: usize = 4096;

/// What stands in it.
///
/// # Errors
/// It cannot be opened or read, or is no text.
pub fn read(path: impl AsRef<Path>) -> Result<String> {
    let mut text = String::with_capacity(USUAL);
    // `take`: so that std does not ask for the size.
    File::open(path)?.take(u64::MAX).read_to_string(&mut text)?;
    Ok(text)
}
