//! Gives memory back when nothing happens.
//!
//! A shim works for milliseconds and then sleeps for days. What it ran through meanwhile stays mapped, most of it only because the
//! kernel maps 64 KiB around every fault. After a moment of rest the pages of its own program are unmapped: they stay in the page
//! cache, and the next call brings back what it needs in some 30 minor faults.

use std::fs;
use std::ops::Range;
use std::time::Duration;

use crate::sys;

/// How long nothing must have happened. Giving back and fetching again takes some 0.1 ms of CPU together.
pub const REST: Duration = Duration::from_millis(200);

/// The parts of our own program that never change after it was loaded.
pub struct Idle {
    unchanging: Vec<Range<usize>>,
}

impl Default for Idle {
    fn default() -> Self {
        let exe = fs::read_link("/proc/self/exe").unwrap_or_default();
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let ours = maps
            .lines()
            .filter(|line| line.ends_with(&*exe.to_string_lossy()) && !exe.as_os_str().is_empty());
        Self {
            unchanging: ours.filter_map(unchanging).collect(),
        }
    }
}

impl Idle {
    /// Gives back what is not needed to sleep.
    pub fn rest(&self) {
        sys::trim_heap();
        for range in &self.unchanging {
            if let Err(error) = sys::unmap_pages(range) {
                crate::log::debug!("pages were not given back: {error}");
            }
        }
    }
}

/// The range of a mapping that holds exactly what the file does: the code, and the constants at the file's start. Not the
/// read-only data after the code: relocations were written into it.
fn unchanging(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (range, mode, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let constant = mode == "r-xp" || (mode == "r--p" && offset.bytes().all(|digit| digit == b'0'));
    let (start, end) = range.split_once('-')?;
    let parse = |text| usize::from_str_radix(text, 16).ok();
    constant.then_some(parse(start)?..parse(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_file_holds_is_given_back() {
        let line = |mode: &str, offset: &str| format!("1000-3000 {mode} {offset} fe:00 1 /x");
        assert_eq!(unchanging(&line("r-xp", "00001000")), Some(0x1000..0x3000));
        assert_eq!(unchanging(&line("r--p", "00000000")), Some(0x1000..0x3000));
        for (mode, offset) in [("r--p", "00002000"), ("rw-p", "00000000"), ("rwxp", "00000000")] {
            assert_eq!(unchanging(&line(mode, offset)), None);
        }
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        let idle = Idle::default();
        assert!(idle.unchanging.len() >= 2);
        idle.rest();
        assert_eq!(idle.unchanging.len().to_string(), format!("{}", idle.unchanging.len()));
    }
}
