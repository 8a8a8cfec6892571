//! Reads YAML that is not trusted into plain values, within bounds. Anchors cannot multiply, a name that stands twice is an error, and a tag that
//! makes something else of a value is one, too: what two readers would take differently is not guessed.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};

/// The largest text that is read, in bytes. A cluster's largest Deployment has some 100 kB.
pub(crate) const LARGEST: usize = 4 << 20;
/// Brackets within brackets, as for a config.json.
const DEEPEST: usize = 64;
/// Values in all documents together, each use of an anchor counted again.
const MOST_VALUES: usize = 200_000;
/// Bytes of text in all of them, counted in the same way.
const MOST_TEXT: usize = 16 << 20;
const MOST_DOCUMENTS: usize = 2_000;

/// Reads every document. An empty one is left out, as kubectl does.
///
/// # Errors
/// It is no YAML, or beyond a bound; the text says where.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>, String> {
    if text.len() > LARGEST {
        return Err(format!("larger than {} MiB", LARGEST >> 20));
    }
    let mut reader = Reader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| format!("not valid YAML: {error}"))?;
        let line = span.start.line();
        reader.take(event).map_err(|why| format!("line {line}: {why}"))?;
    }
    Ok(reader.documents)
}

/// What a value costs, wherever it is used.
#[derive(Clone, Copy, Default)]
struct Cost {
    values: usize,
    text: usize,
}

#[derive(Default)]
struct Reader {
    documents: Vec<Value>,
    open: Vec<Open>,
    anchors: HashMap<usize, (Value, Cost)>,
    spent: Cost,
    /// How many documents began: an empty one counts.
    begun: usize,
}

/// A list or a map that has not ended.
struct Open {
    what: Kind,
    anchor: usize,
    /// What was spent when it began.
    before: Cost,
}

enum Kind {
    List(Vec<Value>),
    Map {
        own: Map<String, Value>,
        key: Option<Key>,
        merged: Vec<Map<String, Value>>,
    },
}

enum Key {
    Name(String),
    Merge,
}

impl Reader {
    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::DocumentStart(_) => {
                self.begun += 1;
                self.anchors.clear();
                if self.begun > MOST_DOCUMENTS {
                    return Err(format!("more than {MOST_DOCUMENTS} documents"));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let before = self.spent;
                self.spend(Cost {
                    values: 1,
                    text: text.len(),
                })?;
                if self.awaits_key() && style == ScalarStyle::Plain && text == "<<" {
                    return self.merge_follows();
                }
                let value = scalar(&text, style, tag.as_deref())?;
                let name = self.awaits_key().then(|| text.into_owned());
                self.ended(value, name, anchor, before)
            }
            Event::SequenceStart(anchor, tag) => {
                usual(tag.as_deref(), "seq")?;
                self.begin(Kind::List(Vec::new()), anchor)
            }
            Event::MappingStart(anchor, tag) => {
                usual(tag.as_deref(), "map")?;
                let own = Map::new();
                let (key, merged) = (None, Vec::new());
                self.begin(Kind::Map { own, key, merged }, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some((value, cost)) = self.anchors.get(&anchor) else {
                    return Err("an alias to what has not ended yet".to_owned());
                };
                let (before, cost) = (self.spent, *cost);
                // Before it is copied: that is the whole of the attack.
                let value = self.within(cost).map(|()| value.clone())?;
                self.spend(cost)?;
                let name = match &value {
                    Value::String(text) if self.awaits_key() => Some(text.clone()),
                    _ => None,
                };
                self.ended(value, name, 0, before)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn within(&self, more: Cost) -> Result<(), String> {
        if self.spent.values.saturating_add(more.values) > MOST_VALUES {
            return Err(format!("more than {MOST_VALUES} values, with what its aliases repeat"));
        }
        if self.spent.text.saturating_add(more.text) > MOST_TEXT {
            return Err(format!(
                "more than {} MiB of text, with what its aliases repeat",
                MOST_TEXT >> 20
            ));
        }
        Ok(())
    }

    fn spend(&mut self, more: Cost) -> Result<(), String> {
        self.within(more)?;
        self.spent.values += more.values;
        self.spent.text += more.text;
        Ok(())
    }

    fn begin(&mut self, what: Kind, anchor: usize) -> Result<(), String> {
        if self.awaits_key() {
            return Err("a list or a map as a key".to_owned());
        }
        if self.open.len() >= DEEPEST {
            return Err(format!("nested deeper than {DEEPEST} levels"));
        }
        let before = self.spent;
        self.spend(Cost { values: 1, text: 0 })?;
        self.open.push(Open { what, anchor, before });
        Ok(())
    }

    /// Whether a map is open whose next value is a key.
    fn awaits_key(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open {
                what: Kind::Map { key: None, .. },
                ..
            })
        )
    }

    fn merge_follows(&mut self) -> Result<(), String> {
        match self.open.last_mut().map(|open| &mut open.what) {
            Some(Kind::Map { key, .. }) => *key = Some(Key::Merge),
            _ => return Err("a merge key outside of a map".to_owned()),
        }
        Ok(())
    }

    /// Puts what has ended where it belongs. `name`: it is text, and may be a key.
    fn ended(&mut self, value: Value, name: Option<String>, anchor: usize, before: Cost) -> Result<(), String> {
        if anchor != 0 {
            let cost = Cost {
                values: self.spent.values - before.values,
                text: self.spent.text - before.text,
            };
            // Kept beside the tree, it takes room again.
            self.spend(cost)?;
            self.anchors.insert(anchor, (value.clone(), cost));
        }
        let Some(open) = self.open.last_mut() else {
            if value != Value::Null {
                self.documents.push(value);
            }
            return Ok(());
        };
        match &mut open.what {
            Kind::List(list) => list.push(value),
            Kind::Map { own, key, merged } => match key.take() {
                None => {
                    let name = name.ok_or("a key that is no text")?;
                    if own.contains_key(&name) {
                        return Err(format!("the name {name:?} is there twice"));
                    }
                    *key = Some(Key::Name(name));
                }
                Some(Key::Name(name)) => {
                    own.insert(name, value);
                }
                Some(Key::Merge) => merged.extend(maps(value)?),
            },
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(Open { what, anchor, before }) = self.open.pop() else {
            return Err("an end without a beginning".to_owned());
        };
        let value = match what {
            Kind::List(list) => Value::Array(list),
            Kind::Map { mut own, merged, .. } => {
                for (name, value) in merged.into_iter().flatten() {
                    // What stands there itself goes before what is merged, and the first of those before the next.
                    own.entry(name).or_insert(value);
                }
                Value::Object(own)
            }
        };
        self.ended(value, None, anchor, before)
    }
}

/// What stands behind `<<`.
fn maps(value: Value) -> Result<Vec<Map<String, Value>>, String> {
    let of = |value: Value| match value {
        Value::Object(map) => Ok(map),
        _ => Err("`<<` merges maps only".to_owned()),
    };
    match value {
        Value::Array(list) => list.into_iter().map(of).collect(),
        one => Ok(vec![of(one)?]),
    }
}

/// Lets no tag through but the one that says what the value is anyway.
fn usual(tag: Option<&Tag>, kind: &str) -> Result<(), String> {
    match tag {
        None => Ok(()),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == kind => Ok(()),
        Some(tag) => Err(format!("the tag {tag} is not taken")),
    }
}

/// Gives a scalar's value, as YAML 1.1 and 1.2 have it: what `yes` is to the one and text to the other is true here, since a Kubernetes API
/// server takes it so.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let plain = match tag {
        None => style == ScalarStyle::Plain,
        Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
            "str" => false,
            "int" | "float" | "bool" | "null" => true,
            _ => return Err(format!("the tag {tag} is not taken")),
        },
        Some(tag) => return Err(format!("the tag {tag} is not taken")),
    };
    if !plain {
        return Ok(Value::String(text.to_owned()));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Value::Bool(false),
        other => number(other).unwrap_or_else(|| Value::String(other.to_owned())),
    })
}

fn number(text: &str) -> Option<Value> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let digits = digits.replace('_', "");
    let radix = |prefix: &str, radix: u32| {
        let rest = digits.strip_prefix(prefix)?;
        u64::from_str_radix(rest, radix).ok()
    };
    let octal = || {
        let rest = digits.strip_prefix('0').filter(|rest| !rest.is_empty())?;
        u64::from_str_radix(rest, 8).ok()
    };
    let whole = radix("0x", 16)
        .or_else(|| radix("0o", 8))
        .or_else(|| radix("0b", 2))
        .or_else(octal)
        .or_else(|| digits.parse::<u64>().ok());
    if let Some(whole) = whole {
        return if negative {
            Some(Value::Number(i64::try_from(whole).ok()?.checked_neg()?.into()))
        } else {
            Some(Value::Number(whole.into()))
        };
    }
    let float: f64 = digits.parse().ok()?;
    Number::from_f64(if negative { -float } else { float }).map(Value::Number)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use std::time::{Duration, Instant};

    use super::*;

    fn one(text: &str) -> Value {
        documents(text).unwrap().remove(0)
    }

    #[test]
    fn values_are_what_an_api_server_takes_them_for() {
        let read = one(
            "a: yes\nb: 'yes'\nc: 0x10\nd: 0777\ne: 1_000\nf: -3\ng: 1.5\nh: ~\ni: 12Mi\nj: [1, {k: v}]\nl: !!str 7\nm: \"1\"\n",
        );
        let expected = json!({"a": true, "b": "yes", "c": 16, "d": 511, "e": 1000, "f": -3, "g": 1.5, "h": null, "i": "12Mi",
            "j": [1, {"k": "v"}], "l": "7", "m": "1"});
        assert_eq!(read, expected);
        assert_eq!(documents("---\na: 1\n---\n---\nb: 2\n...\n").unwrap().len(), 2);
        assert_eq!(documents("").unwrap().len(), 0);
        assert_eq!(
            one(r#"{"a": ["b", true, null], "c": "\u003c\/"}"#),
            json!({"a": ["b", true, null], "c": "</"})
        );
    }

    #[test]
    fn anchors_and_merges_are_what_they_stand_for() {
        let text = "x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: {<<: [*x, {c: 4}]}\n";
        let read = one(text);
        assert_eq!(read["y"], json!({"a": 1, "b": 3}));
        assert_eq!(read["z"], json!({"a": 1, "b": 2, "c": 4}));
        // An anchor holds in its own document.
        assert!(documents("a: &a 1\n---\nb: *a\n").is_err());
    }

    #[test]
    fn what_is_hostile_ends_soon_and_by_an_error() {
        let mut laughs = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (own, other) in ('b'..='j').zip('a'..) {
            laughs += &format!("{own}: &{own} [{}]\n", vec![format!("*{other}"); 10].join(", "));
        }
        let wide = format!(
            "a: &a \"{}\"\nb: [{}]\n",
            "x".repeat(1 << 20),
            vec!["*a"; 50_000].join(", ")
        );
        let cases = [
            ("aliases that multiply", laughs),
            ("an alias of much text", wide),
            ("an alias of itself", "a: &a [*a]\n".to_owned()),
            ("a merge of itself", "a: &a {<<: *a}\n".to_owned()),
            ("depth", "[".repeat(100_000)),
            ("depth of maps", "a: {".repeat(100_000)),
            (
                "depth by indentation",
                (0..2000).map(|n| format!("{}a:\n", " ".repeat(n))).collect(),
            ),
            ("depth of dashes", "- ".repeat(100_000)),
            ("many values", format!("[{}]", "1,".repeat(300_000))),
            ("many documents", "---\n".repeat(10_000)),
            ("size", "#".repeat(LARGEST + 1)),
            ("a name twice", "privileged: true\nprivileged: false\n".to_owned()),
            ("a name twice in flow", r#"{"a": 1, "a": 2}"#.to_owned()),
            ("a name twice by quotes", "a: 1\n'a': 2\n".to_owned()),
            ("a tag", "a: !!python/object:os.system x\n".to_owned()),
            ("a local tag", "a: !reset true\n".to_owned()),
            ("binary", "a: !!binary aGk=\n".to_owned()),
            ("a key that is a list", "? [a]\n: b\n".to_owned()),
            ("an unknown alias", "a: *b\n".to_owned()),
            ("tabs", "a:\n\t- b\n".to_owned()),
            ("an open quote", "a: \"b".to_owned()),
        ];
        for (what, text) in cases {
            let begun = Instant::now();
            let read = documents(&text);
            assert!(read.is_err(), "{what}: {read:?}");
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "{what}: {:?}",
                begun.elapsed()
            );
        }
    }

    #[test]
    fn any_bytes_end_without_a_panic() {
        let seeds = [
            "a: &x {b: [1, *x]}\n",
            "- ? a\n  : |\n   x\n",
            "%YAML 1.2\n---\n!!map {<<: *a}\n",
            "\"\\u12\" : '\u{0}'",
        ];
        for seed in seeds {
            for cut in 0..seed.len() {
                for insert in ["", "\u{0}", "\t", "}", "&", "*", ": ", "\u{feff}", "|", "\r"] {
                    if let Some((head, tail)) = seed.split_at_checked(cut) {
                        drop(documents(&format!("{head}{insert}{tail}")));
                    }
                }
            }
        }
    }
}
