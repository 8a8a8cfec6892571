//! lld's map: where each input section of the code went, and where functions begin.

use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug)]
pub(crate) struct Map {
    /// Address → end, and `FILE:(SECTION)`.
    sections: BTreeMap<u64, (u64, String)>,
    /// Addresses at which functions begin.
    pub functions: Vec<u64>,
}

impl Map {
    /// Columns: VMA, LMA, size, alignment; then output section, input section, symbol, each set in deeper than the one before.
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("the linker's map");
        let mut map = Self {
            sections: BTreeMap::new(),
            functions: Vec::new(),
        };
        let mut code = false;
        for line in text.lines().skip(1) {
            let Some((numbers, name)) = columns(line) else { continue };
            let depth = name.len() - name.trim_start().len();
            match (depth, code) {
                (0, _) => code = name.starts_with(".text"),
                (8, true) if numbers.size > 0 => {
                    let end = numbers.at + numbers.size;
                    map.sections.insert(numbers.at, (end, name.trim().to_owned()));
                }
                // Labels inside assembler have no size; what lies there need not be an instruction.
                (16, true) if numbers.size > 0 => map.functions.push(numbers.at),
                _ => {}
            }
        }
        map.functions.sort_unstable();
        map.functions.dedup();
        assert!(map.functions.len() > 1000, "no map of lld's: {}", path.display());
        map
    }

    pub(crate) fn section_of(&self, at: u64) -> &str {
        let (_, (end, name)) = self.sections.range(..=at).next_back().expect("a section");
        assert!(at < *end, "{at:x} lies in no section");
        name
    }
}

struct Numbers {
    at: u64,
    size: u64,
}

fn columns(line: &str) -> Option<(Numbers, &str)> {
    let mut rest = line;
    let mut word = || {
        let from = rest.trim_start();
        let end = from.find(' ')?;
        let word = &from[..end];
        rest = &from[end..];
        Some(word)
    };
    let at = u64::from_str_radix(word()?, 16).ok()?;
    word()?;
    let size = u64::from_str_radix(word()?, 16).ok()?;
    word()?;
    Some((Numbers { at, size }, &rest[1..]))
}
