//! The linker script: input sections in the order in which they first ran.

const HEAD: &str = concat!(
    "/* Written by hack/layout: the code that a container's life runs through, in the order in which it is first run, so that it lies\n",
    "   side by side. What is missing here, or is no longer there, costs memory and nothing else. */\n",
    "SECTIONS {\n    .text.life : {\n",
);

/// `krate` is the program's own: what is newer than the list is likely to be run, too.
pub(crate) fn linker(sections: &[&str], krate: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for section in sections {
        let line = pattern(section);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let body: String = lines.iter().map(|line| format!("        {line}\n")).collect();
    let length = krate.len();
    format!(
        "{HEAD}{body}        /* What is newer than this list is likely to be run, too. */\n        \
         *(.text._RN*Cs*_{length}{krate}* .text.gabion_start)\n    }}\n}}\nINSERT BEFORE .text;\n"
    )
}

/// `DIR/libc.a(poll.o):(.text)` → `*libc.a:poll.o(.text)`; a Rust function's own section without what changes from build to build.
fn pattern(section: &str) -> String {
    let (file, name) = section.rsplit_once(":(").expect("FILE:(SECTION)");
    let name = name.trim_end_matches(')');
    if name.starts_with(".text._")
        || name.starts_with(".text.unlikely._")
        || matches!(name, ".text.main" | ".text.gabion_start")
    {
        return format!("*({})", stable(name));
    }
    match file.rsplit_once('/').map_or(file, |(_, base)| base).split_once('(') {
        Some((archive, member)) => {
            // Cargo adds a hash to a library's name.
            let archive = archive
                .split_once('-')
                .map_or(archive, |(stem, _)| stem)
                .trim_end_matches(".a");
            format!("*{archive}*:{}({name})", member.trim_end_matches(')'))
        }
        None => format!("*{}({name})", file.rsplit_once('/').map_or(file, |(_, base)| base)),
    }
}

/// Hashes become `*`: `CsHASH_` of a crate, `.llvm.NUMBER`, `.NUMBER`. What is generic keeps its types: only names of the v0 mangling have
/// them, with others one that runs would bring all its like.
fn stable(name: &str) -> String {
    let name = match name.find(".llvm.") {
        Some(at) => &name[..at],
        None => name
            .trim_end_matches(|c: char| c.is_ascii_digit())
            .trim_end_matches('.'),
    };
    let mut out = String::new();
    let mut rest = name;
    while let Some(at) = rest.find("Cs") {
        let after = &rest[at + 2..];
        let hash = after
            .find('_')
            .filter(|end| *end >= 8 && after[..*end].chars().all(|c| c.is_ascii_alphanumeric()));
        if let Some(end) = hash {
            out.push_str(&rest[..at]);
            out.push_str("Cs*_");
            rest = &after[end + 1..];
        } else {
            out.push_str(&rest[..at + 2]);
            rest = after;
        }
    }
    out + rest + "*"
}
