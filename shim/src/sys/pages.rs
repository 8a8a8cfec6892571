//! Pages of our own program that can be given back while nothing happens.

use std::fs;
use std::io;
use std::ops::Range;

use nix::errno::Errno;
use nix::libc;

/// A mapping of our own program that holds exactly what its file does, found by the kernel's table. Only this module makes one, so a
/// range of any other memory can never be unmapped.
pub struct Unchanging(Range<usize>);

impl Unchanging {
    /// Finds all of them: the code, and the constants at the file's start.
    pub fn of_this_program() -> Vec<Self> {
        let exe = fs::read_link("/proc/self/exe").unwrap_or_default();
        let table = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        unchanging(&table, &exe.to_string_lossy())
            .into_iter()
            .map(Self)
            .collect()
    }

    /// Unmaps the pages; the next access maps them again.
    pub fn give_back(&self) -> io::Result<()> {
        let start = std::ptr::without_provenance_mut(self.0.start);
        // SAFETY: the range is a private mapping of our own program's file that is not writable, and of which no page was ever written
        // to (`unchanging`). It stays mapped as long as the program runs. What the kernel reads again is what is there now.
        let result = unsafe { libc::madvise(start, self.0.len(), libc::MADV_DONTNEED) };
        Errno::result(result)?;
        Ok(())
    }
}

/// The ranges of `exe` in a table of the form of /proc/PID/smaps that are not writable and hold no page of their own. The second
/// leaves out the read-only data after the code: relocations were written into it.
fn unchanging(table: &str, exe: &str) -> Vec<Range<usize>> {
    let (mut found, mut candidate) = (Vec::new(), None);
    for line in table.lines() {
        if let Some((range, ours)) = header(line, exe) {
            candidate = ours.then_some(range);
        } else if let Some(size) = line.strip_prefix("Anonymous:")
            && let Some(range) = candidate.take()
            && size.trim() == "0 kB"
        {
            found.push(range);
        }
    }
    found
}

/// The first line of a mapping: its range, and whether it is of `exe`, private and never writable.
fn header(line: &str, exe: &str) -> Option<(Range<usize>, bool)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let parse = |text| usize::from_str_radix(text, 16).ok();
    let range = parse(start)?..parse(end)?;
    let (mode, offset) = (fields.next()?, fields.next()?);
    let constant = mode == "r-xp" || (mode == "r--p" && offset.bytes().all(|digit| digit == b'0'));
    let path = line.find('/').and_then(|at| line.get(at..)).unwrap_or_default();
    Some((range, constant && !exe.is_empty() && path == exe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_file_holds_is_given_back() {
        let found = |mode: &str, offset: &str, path: &str, own: &str| {
            let first = format!("1000-3000 {mode} {offset} fe:00 1    {path}");
            let table = format!("{first}\nRss: 8 kB\nAnonymous:        {own} kB\nSwap: 0 kB\n");
            let found = unchanging(&table, "/x y");
            assert!(found.iter().all(|range| *range == (0x1000..0x3000)));
            found.len()
        };
        assert_eq!(found("r-xp", "00001000", "/x y", "0"), 1);
        assert_eq!(found("r--p", "00000000", "/x y", "0"), 1);
        for (mode, offset) in [
            ("r--p", "00002000"),
            ("rw-p", "00000000"),
            ("rwxp", "00000000"),
            ("r-xs", "0"),
        ] {
            assert_eq!(found(mode, offset, "/x y", "0"), 0);
        }
        // Another file, no file at all, and a page that was written to.
        assert_eq!(found("r-xp", "00001000", "/lib/x y", "0"), 0);
        assert_eq!(found("r-xp", "00001000", "", "0"), 0);
        assert_eq!(found("r-xp", "00001000", "/x y", "4"), 0);
    }

    /// How much of our unchanging mappings is in memory, in KiB.
    fn resident() -> u64 {
        let table = fs::read_to_string("/proc/self/smaps").unwrap();
        let ours = Unchanging::of_this_program();
        let (mut sum, mut inside) = (0, false);
        for line in table.lines() {
            if let Some((range, _)) = header(line, "") {
                inside = ours.iter().any(|part| part.0 == range);
            } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| inside) {
                sum += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
        }
        sum
    }

    #[test]
    fn pages_go_and_the_program_goes_on() {
        let ours = Unchanging::of_this_program();
        assert!(ours.len() >= 2, "code and constants");
        // Other tests run meanwhile and map pages again: one look of some must show that most were gone.
        let goes = |_| {
            let before = resident();
            for part in &ours {
                part.give_back().unwrap();
            }
            resident() * 2 < before
        };
        assert!((0..50).any(goes), "nothing was given back");
    }
}
