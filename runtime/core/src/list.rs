//! Lists of CPUs and memory nodes, `0-3,7`, as the kernel, the runtime spec and engines write them.
//!
//! One parser for who judges and who does. It keeps ranges, not numbers, and merges them: a list of eight megabytes, or one that says
//! `0-4294967295`, costs no more memory than its text.

use std::ops::RangeInclusive;

/// More CPUs or nodes than any kernel is built for.
pub const MOST: u32 = 1 << 16;

/// Numbers in ascending order, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers(Vec<RangeInclusive<u32>>);

/// A text that is no list of numbers below the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAList;

impl Numbers {
    /// Parses a list whose numbers are all lower than `bound` (at most [`MOST`] counts).
    ///
    /// # Errors
    /// The text is empty, a part is no number or range, a range ends before it starts, or a number is not below the bound.
    pub fn parse(text: &str, bound: u32) -> Result<Self, NotAList> {
        let bound = bound.min(MOST);
        // Not `+5`, which Rust would take.
        let digits = |text: &&str| text.bytes().all(|b| b.is_ascii_digit());
        let number = |text: &str| {
            Some(text.trim())
                .filter(digits)?
                .parse::<u32>()
                .ok()
                .filter(|n| *n < bound)
        };
        let mut ranges = Vec::new();
        for part in text.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let pair = number(first).zip(number(last)).filter(|(first, last)| first <= last);
            let (first, last) = pair.ok_or(NotAList)?;
            ranges.push(first..=last);
        }
        Ok(Self(merged(ranges)))
    }

    /// Gives each number once, lowest first: fewer than [`MOST`] of them.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().cloned().flatten()
    }

    /// Gives a bit for each number: the first in the lowest bit of the first byte, no more bytes than the highest needs.
    pub fn mask(&self) -> Vec<u8> {
        let bytes = self.0.last().map_or(0, |range| range.end() / 8 + 1);
        let mut mask = vec![0_u8; usize::try_from(bytes).unwrap_or(0)];
        for n in self.iter() {
            if let Some(byte) = usize::try_from(n / 8).ok().and_then(|at| mask.get_mut(at)) {
                *byte |= 1 << (n % 8);
            }
        }
        mask
    }
}

/// Joins what overlaps, so that to walk the list is bounded by its highest number and not by its text.
fn merged(mut ranges: Vec<RangeInclusive<u32>>) -> Vec<RangeInclusive<u32>> {
    ranges.sort_unstable_by_key(|range| *range.start());
    let mut out: Vec<RangeInclusive<u32>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start() <= last.end() => *last = *last.start()..=*last.end().max(range.end()),
            _ => out.push(range),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        let read = |text: &str| Numbers::parse(text, MOST).unwrap().iter().collect::<Vec<_>>();
        assert_eq!(read("0-2,7"), [0, 1, 2, 7]);
        assert_eq!(read(" 3 , 1 - 2\n"), [1, 2, 3]);
        assert_eq!(read("5,0-6,5"), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(Numbers::parse("0-2,9", MOST).unwrap().mask(), [7, 2]);
    }

    #[test]
    fn what_is_none_says_so() {
        for bad in [
            "",
            " ",
            "x",
            "3-1",
            "0,",
            ",0",
            "-1",
            "1-",
            "0--1",
            "+1",
            "65536",
            "0-4294967295",
            "99999999999",
        ] {
            assert_eq!(Numbers::parse(bad, u32::MAX), Err(NotAList), "{bad:?}");
        }
        assert!(Numbers::parse("1023", 1024).is_ok() && Numbers::parse("1024", 1024).is_err());
    }

    #[test]
    fn repetition_costs_nothing() {
        let long = vec!["0-65535"; 100_000].join(",");
        let numbers = Numbers::parse(&long, MOST).unwrap();
        assert_eq!(numbers.iter().count(), 65536);
        assert_eq!(numbers.mask().len(), 8192);
    }
}
