//! The part of YAML that CDI files are written in, read strictly: blocks of mappings and sequences, words and quoted strings, and sequences of
//! words in brackets. Whatever else there is in YAML (anchors, tags, text over several lines, several documents) is a fault, so that nothing is
//! understood in another way than the engine understands it.

use serde_json::{Map, Value};

/// How deep blocks may lie in each other.
const DEEPEST: usize = 16;

/// One line that says something.
struct Line<'a> {
    indent: usize,
    text: &'a str,
    number: usize,
}

/// Where the reader is.
struct Reader<'a> {
    lines: Vec<Line<'a>>,
    at: usize,
}

type Parsed<T> = Result<T, String>;

/// Reads one document.
pub(super) fn parse(text: &str) -> Parsed<Value> {
    let mut reader = Reader {
        lines: lines(text)?,
        at: 0,
    };
    let Some(first) = reader.lines.first() else {
        return Err("it is empty".to_owned());
    };
    let value = reader.block(first.indent, 0)?;
    match reader.lines.get(reader.at) {
        None => Ok(value),
        Some(line) => Err(fault(line.number, "this line belongs to no block")),
    }
}

fn fault(line: usize, what: &str) -> String {
    format!("line {line}: {what}")
}

fn lines(text: &str) -> Parsed<Vec<Line<'_>>> {
    let mut found: Vec<Line<'_>> = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let number = index + 1;
        let line = uncommented(raw).trim_end();
        let body = line.trim_start_matches(' ');
        if body.is_empty() || (found.is_empty() && line == "---") {
            continue;
        }
        if body.starts_with('\t') {
            return Err(fault(number, "a tab before the text"));
        }
        if line.starts_with("---") || line.starts_with("...") || line.starts_with('%') {
            return Err(fault(number, "more than one document, or a directive"));
        }
        found.push(Line {
            indent: line.len() - body.len(),
            text: body,
            number,
        });
    }
    Ok(found)
}

/// Leaves a comment out: a `#` outside of quotes, at the start or behind a space.
fn uncommented(line: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            // Within a word it is a letter like others.
            None if matches!(c, '"' | '\'') && " [,:-{".contains(before) => quote = Some(c),
            None if c == '#' && before.is_whitespace() => return line.get(..at).unwrap_or(line),
            None => {}
        }
        before = c;
    }
    line
}

/// What stands behind the hyphen of a sequence's item; None where the line is no item.
fn item(text: &str) -> Option<&str> {
    match text.strip_prefix('-')? {
        "" => Some(""),
        rest => rest.strip_prefix(' ').map(str::trim_start),
    }
}

/// Splits `key: value`; None where the line is no entry of a mapping.
fn entry(text: &str) -> Option<(&str, &str)> {
    let end = match text.chars().next()? {
        quote @ ('"' | '\'') => text.get(1..)?.find(quote)? + 2,
        _ => text.find(": ").or_else(|| text.strip_suffix(':').map(str::len))?,
    };
    let (key, rest) = (text.get(..end)?, text.get(end..)?);
    let rest = rest.strip_prefix(':')?;
    (rest.is_empty() || rest.starts_with(' ')).then(|| (key, rest.trim()))
}

impl Reader<'_> {
    /// Reads the block whose lines are indented so far.
    fn block(&mut self, indent: usize, depth: usize) -> Parsed<Value> {
        let Some(line) = self.lines.get(self.at) else {
            return Ok(Value::Null);
        };
        if depth > DEEPEST {
            return Err(fault(line.number, "too deep"));
        }
        if item(line.text).is_some() {
            self.sequence(indent, depth)
        } else {
            self.mapping(indent, depth)
        }
    }

    fn sequence(&mut self, indent: usize, depth: usize) -> Parsed<Value> {
        let mut list = Vec::new();
        while let Some(line) = self.lines.get_mut(self.at).filter(|line| line.indent == indent) {
            let Some(rest) = item(line.text) else { break };
            let number = line.number;
            if rest.is_empty() {
                self.at += 1;
                list.push(self.below(indent, depth)?);
            } else if entry(rest).is_some() || item(rest).is_some() {
                // The item begins on the hyphen's line: that line is one of the block's.
                line.indent += line.text.len() - rest.len();
                line.text = rest;
                let inner = line.indent;
                list.push(self.block(inner, depth + 1)?);
            } else {
                self.at += 1;
                list.push(scalar(rest, number)?);
            }
        }
        Ok(Value::Array(list))
    }

    fn mapping(&mut self, indent: usize, depth: usize) -> Parsed<Value> {
        let mut map = Map::new();
        while let Some(line) = self.lines.get(self.at).filter(|line| line.indent == indent) {
            if item(line.text).is_some() {
                break;
            }
            let number = line.number;
            let (key, rest) = entry(line.text).ok_or_else(|| fault(number, "neither `key: value` nor an item"))?;
            let Value::String(key) = scalar(key, number)? else {
                return Err(fault(number, "a key that is no word"));
            };
            self.at += 1;
            let value = if !rest.is_empty() {
                scalar(rest, number)?
            } else if self
                .lines
                .get(self.at)
                .is_some_and(|next| next.indent == indent && item(next.text).is_some())
            {
                // A sequence may stand as far to the left as its key.
                self.sequence(indent, depth + 1)?
            } else {
                self.below(indent, depth)?
            };
            if map.insert(key, value).is_some() {
                return Err(fault(number, "a key for the second time"));
            }
        }
        Ok(Value::Object(map))
    }

    /// Reads what is indented further than `indent`, if anything is.
    fn below(&mut self, indent: usize, depth: usize) -> Parsed<Value> {
        match self.lines.get(self.at) {
            Some(next) if next.indent > indent => {
                let inner = next.indent;
                self.block(inner, depth + 1)
            }
            _ => Ok(Value::Null),
        }
    }
}

/// Reads what stands on one line.
fn scalar(text: &str, line: usize) -> Parsed<Value> {
    let first = text.chars().next().unwrap_or(' ');
    match first {
        '"' => serde_json::from_str::<String>(text).map(Value::String).map_err(|_| {
            fault(
                line,
                "a quoted string that does not end here, or an escape that JSON has not",
            )
        }),
        '\'' => single(text)
            .map(Value::String)
            .ok_or_else(|| fault(line, "a quoted string that does not end here")),
        '[' => flow(text, line),
        '{' if text == "{}" => Ok(Value::Object(Map::new())),
        '{' | '}' | ']' | '&' | '*' | '!' | '|' | '>' | '%' | '@' | '`' | ',' | '?' => Err(fault(
            line,
            "a form of YAML that is not read here: write the file as JSON",
        )),
        _ if text.contains(": ") || text.ends_with(':') => Err(fault(line, "a mapping within a line")),
        _ => word(text, line),
    }
}

fn single(text: &str) -> Option<String> {
    let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
    let unescaped = inner.replace("''", "\u{0}");
    (!unescaped.contains('\'') && !inner.contains('\u{0}')).then(|| unescaped.replace('\u{0}', "'"))
}

/// Reads a sequence in brackets, of words and quoted strings without commas.
fn flow(text: &str, line: usize) -> Parsed<Value> {
    let bad = || fault(line, "a sequence in brackets that is not of plain words");
    let inner = text
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .ok_or_else(bad)?;
    if inner.trim().is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    let each = |part: &str| {
        let part = part.trim();
        if part.is_empty() || part.contains(['[', ']', '{', '}']) {
            return Err(bad());
        }
        scalar(part, line)
    };
    inner
        .split(',')
        .map(each)
        .collect::<Parsed<Vec<Value>>>()
        .map(Value::Array)
}

/// Reads a word without quotes.
fn word(text: &str, line: usize) -> Parsed<Value> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        if digits.len() > 1 && digits.starts_with('0') {
            // Octal to some readers, decimal to others.
            return Err(fault(line, "a number that begins with 0"));
        }
        let number: i64 = text.parse().map_err(|_| fault(line, "a number that is too large"))?;
        return Ok(number.into());
    }
    Ok(match text {
        "null" | "~" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => Value::String(text.to_owned()),
    })
}
