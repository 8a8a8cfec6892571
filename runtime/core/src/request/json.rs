//! Reads JSON as the runtime spec's own types have it, for every struct at once.
//!
//! serde's derived code takes a list for a struct (`"user": [1000, 1000]`), an object for a word, and drops a key that it does not know. Go's
//! decoder, by which every other runtime of this spec reads, takes `maskedpaths` for `maskedPaths`: a mask must not be lost to a capital letter.
//! So everything that is read goes through [`Checked`]: the table of keys is the one that each struct hands to its deserializer.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::value::{MapDeserializer, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use crate::capability;

mod merge;
use merge::{Step, Tree, Twice};

/// What runc takes as something else, or leaves out: taken so at level permissive, an error above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Odd {
    /// Where, as the spec writes it.
    pub field: String,
    pub what: Oddity,
}

/// How it is odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// The key was written in this way, and is meant for the field.
    Spelled(String),
    /// The same name stands there more than once: the last one is taken.
    Repeated,
    /// A capability that nobody has: left out.
    NoCapability(String),
    /// `null` where a number or a truth value belongs: zero, or false.
    Null,
}

impl Odd {
    /// Says what is wrong with it, without the field.
    pub fn why(&self) -> String {
        match &self.what {
            Oddity::Spelled(found) => format!("the key is written {found:?}"),
            Oddity::Repeated => "the name is there more than once".to_owned(),
            Oddity::NoCapability(name) => match spelled(name) {
                Some(right) => format!("{name:?} is no capability: it is written {right}"),
                None => format!("{name:?} is no capability that is known here"),
            },
            Oddity::Null => "it is null".to_owned(),
        }
    }
}

/// The warning of the level that takes it.
impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken = match self.what {
            Oddity::Spelled(_) => "it is taken as the spec's",
            Oddity::Repeated => "the last one is taken",
            Oddity::NoCapability(_) => "it is left out",
            Oddity::Null => "it is taken as zero, or false",
        };
        write!(f, "{}: {}; {taken}", self.field, self.why())
    }
}

/// The right name of a capability that lacks its prefix or has other letters.
fn spelled(name: &str) -> Option<String> {
    let bare = name.to_ascii_uppercase();
    let bare = bare.trim_start_matches("CAP_");
    capability::NAMES.contains(&bare).then(|| format!("CAP_{bare}"))
}

/// More than these are not kept: a warning or an error is told by them.
const ODD: usize = 16;

/// How often a text is read again that has fields more than once: each time may show some that lay within others.
const AGAIN: u32 = 3;

/// The largest text that is read again, in bytes.
const LARGEST: usize = 1 << 20;

/// Collects what is odd while a text is read.
#[derive(Debug, Default)]
struct Notes {
    odd: RefCell<Vec<Odd>>,
    twice: RefCell<Vec<Twice>>,
}

impl Notes {
    fn add(&self, field: &Place<'_>, what: impl FnOnce() -> Oddity) {
        let mut all = self.odd.borrow_mut();
        if all.len() < ODD {
            let odd = Odd {
                field: field.to_string(),
                what: what(),
            };
            // A text that is read again has it again.
            if !all.contains(&odd) {
                all.push(odd);
            }
        }
    }

    /// Whether a field of this object may be there again: more of them than a person writes are not taken.
    fn twice(&self, object: &Place<'_>, field: &'static str) -> bool {
        let mut all = self.twice.borrow_mut();
        let object = object.steps();
        all.push(Twice { object, field });
        all.len() <= ODD
    }
}

/// Where the reader is: a list of parts that ends at the top.
#[derive(Clone, Copy)]
struct Place<'a> {
    above: Option<&'a Place<'a>>,
    part: Part<'a>,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Top,
    Key(&'a str),
    Index(usize),
}

impl Place<'_> {
    fn below<'a>(&'a self, part: Part<'a>) -> Place<'a> {
        Place {
            above: Some(self),
            part,
        }
    }
}

impl Place<'_> {
    fn steps(&self) -> Vec<Step> {
        let mut steps = self.above.map_or_else(Vec::new, Place::steps);
        match self.part {
            Part::Top => {}
            Part::Key(key) => steps.push(Step::Key(key.to_owned())),
            Part::Index(index) => steps.push(Step::Index(index)),
        }
        steps
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = match self.above {
            Some(above) => {
                above.fmt(f)?;
                matches!(above.part, Part::Top)
            }
            None => true,
        };
        match self.part {
            Part::Top => Ok(()),
            Part::Key(key) if first => f.write_str(key),
            Part::Key(key) => write!(f, ".{key}"),
            Part::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// What a value is read for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Anything,
    /// A set of capabilities, of which runc leaves out what it does not know.
    Capabilities,
}

/// A deserializer that reads as this module says. `D` is where the text comes from.
struct Checked<'a, D> {
    inner: D,
    at: &'a Place<'a>,
    notes: &'a Notes,
    of: Of,
}

/// Reads a `T`, and what of its text is odd.
///
/// # Errors
/// It is no `T`.
pub(super) fn read<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<(T, Vec<Odd>)> {
    let notes = Notes::default();
    let mut reader = serde_json::Deserializer::from_slice(text);
    let mut value = once(&mut reader, &notes)?;
    reader.end()?;
    let mut twice = notes.twice.take();
    if !twice.is_empty() {
        too_often(text.len() > LARGEST, &twice)?;
        let mut tree: Tree = serde_json::from_slice(text)?;
        for _ in 0..AGAIN {
            tree.merge(twice);
            // By the same reader, as text: for each kind of reader there is all the code of the spec's types once more.
            let merged = serde_json::to_vec(&tree.clone().into_value())?;
            value = once(&mut serde_json::Deserializer::from_slice(&merged), &notes)?;
            twice = notes.twice.take();
            if twice.is_empty() {
                break;
            }
        }
        too_often(!twice.is_empty(), &twice)?;
    }
    Ok((value, notes.odd.into_inner()))
}

fn too_often(too_often: bool, twice: &[Twice]) -> serde_json::Result<()> {
    match twice.first() {
        Some(Twice { field, .. }) if too_often => Err(serde_json::Error::custom(format_args!(
            "{field} is there more than once"
        ))),
        _ => Ok(()),
    }
}

/// Reads `T` out of what `inner` reads; what is odd goes to `notes`.
fn once<'de, T: serde::Deserialize<'de>, D: Deserializer<'de>>(inner: D, notes: &Notes) -> Result<T, D::Error> {
    let at = &Place {
        above: None,
        part: Part::Top,
    };
    T::deserialize(Checked {
        inner,
        at,
        notes,
        of: Of::Anything,
    })
}

/// A number or a truth value, which Go leaves at zero or false where the text has `null`.
macro_rules! scalar {
    ($($name:ident $zero:expr;)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let Self { inner, at, notes, .. } = self;
            inner.deserialize_option(OrZero { visitor, zero: $zero, at, notes })
        })*
    };
}

/// What holds nothing else is read as it is.
macro_rules! plain {
    ($($name:ident)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$name(visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Checked<'_, D> {
    type Error = D::Error;

    scalar! {
        deserialize_bool Zero::False;
        deserialize_i8 Zero::Number; deserialize_i16 Zero::Number; deserialize_i32 Zero::Number; deserialize_i64 Zero::Number;
        deserialize_u8 Zero::Number; deserialize_u16 Zero::Number; deserialize_u32 Zero::Number; deserialize_u64 Zero::Number;
    }

    plain! {
        deserialize_any deserialize_i128 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Self { inner, at, notes, of } = self;
        inner.deserialize_option(Perhaps { visitor, at, notes, of })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Self { inner, at, notes, of } = self;
        inner.deserialize_seq(List { visitor, at, notes, of })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Self { inner, at, notes, .. } = self;
        inner.deserialize_map(Map { visitor, at, notes })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Self { inner, at, notes, .. } = self;
        inner.deserialize_map(Object {
            visitor,
            name,
            fields,
            at,
            notes,
        })
    }

    /// A word is a string. serde takes `{"pid": null}` for it, too.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_str(Word(visitor))
    }

    // None of the spec's types is one of these; what they hold would be read without a look.
    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_seq(visitor)
    }
}

/// What Go leaves where the text has `null`.
#[derive(Clone, Copy)]
enum Zero {
    Number,
    False,
}

struct OrZero<'a, V> {
    visitor: V,
    zero: Zero,
    at: &'a Place<'a>,
    notes: &'a Notes,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for OrZero<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.notes.add(self.at, || Oddity::Null);
        match self.zero {
            Zero::Number => self.visitor.visit_u64(0),
            Zero::False => self.visitor.visit_bool(false),
        }
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visit_unit()
    }

    // The visitor of a scalar takes nothing else.
    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        inner.deserialize_any(self.visitor)
    }
}

/// A value that may be null.
struct Perhaps<'a, V> {
    visitor: V,
    at: &'a Place<'a>,
    notes: &'a Notes,
    of: Of,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Perhaps<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let Self { visitor, at, notes, of } = self;
        visitor.visit_some(Checked { inner, at, notes, of })
    }
}

/// A string that stands for one of a few.
struct Word<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Word<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        self.0
            .visit_enum(IntoDeserializer::<E>::into_deserializer(otherwise(text)))
    }
}

struct List<'a, V> {
    visitor: V,
    at: &'a Place<'a>,
    notes: &'a Notes,
    of: Of,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for List<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Self { visitor, at, notes, of } = self;
        let items = Items {
            inner,
            next: 0,
            at,
            notes,
        };
        match of {
            Of::Anything => visitor.visit_seq(items),
            Of::Capabilities => visitor.visit_seq(Known(items)),
        }
    }
}

struct Items<'a, A> {
    inner: A,
    next: usize,
    at: &'a Place<'a>,
    notes: &'a Notes,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        let at = &self.at.below(Part::Index(self.next));
        self.next += 1;
        self.inner.next_element_seed(Seed {
            of_value: seed,
            at,
            notes: self.notes,
            of: Of::Anything,
        })
    }
}

/// The capabilities of a list that there are.
struct Known<'a, A>(Items<'a, A>);

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Known<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        while let Some(name) = self.0.next_element::<String>()? {
            // oci-spec takes other spellings, too, which runc leaves out.
            if name
                .strip_prefix("CAP_")
                .is_some_and(|bare| capability::NAMES.contains(&bare))
            {
                return seed.deserialize(StrDeserializer::new(&name)).map(Some);
            }
            self.0.notes.add(self.0.at, || Oddity::NoCapability(name));
        }
        Ok(None)
    }
}

/// A map of names that the caller chose.
struct Map<'a, V> {
    visitor: V,
    at: &'a Place<'a>,
    notes: &'a Notes,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Map<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Self { visitor, at, notes } = self;
        visitor.visit_map(Names {
            inner,
            seen: HashSet::new(),
            now: String::new(),
            at,
            notes,
        })
    }
}

struct Names<'a, A> {
    inner: A,
    seen: HashSet<String>,
    now: String,
    at: &'a Place<'a>,
    notes: &'a Notes,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Names<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let Some(name) = self.inner.next_key::<String>()? else {
            return Ok(None);
        };
        if !self.seen.insert(name.clone()) {
            self.notes.add(&self.at.below(Part::Key(&name)), || Oddity::Repeated);
        }
        self.now.clone_from(&name);
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.next_value_seed(Seed {
            of_value: seed,
            at: &self.at.below(Part::Key(&self.now)),
            notes: self.notes,
            of: Of::Anything,
        })
    }
}

/// A struct of the spec: its keys are known.
struct Object<'a, V> {
    visitor: V,
    name: &'static str,
    fields: &'static [&'static str],
    at: &'a Place<'a>,
    notes: &'a Notes,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Object<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at.part {
            Part::Top => f.write_str("an object"),
            _ => write!(f, "an object for {}", self.at),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Self {
            visitor,
            name,
            fields,
            at,
            notes,
        } = self;
        visitor.visit_map(Keys {
            inner,
            name,
            fields,
            seen: 0,
            now: Now::Unknown,
            at,
            notes,
        })
    }
}

/// The key whose value is read next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Now {
    /// Nobody's: the value is passed over.
    Unknown,
    Field(usize),
    /// Not in the text, and what it is when it is left out is an empty object.
    Absent(usize),
}

struct Keys<'a, A> {
    inner: A,
    name: &'static str,
    fields: &'static [&'static str],
    /// A bit for each field: no struct of the spec has more than 64.
    seen: u64,
    now: Now,
    at: &'a Place<'a>,
    notes: &'a Notes,
}

/// Names of the spec that oci-spec has in other letters: a key, or a word that a string stands for.
const OTHERWISE: [(&str, &str); 4] = [
    ("enableCMT", "enableCmt"),
    ("enableMBM", "enableMbm"),
    ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
    ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
];

/// Gives oci-spec's name for one of the spec's.
fn otherwise(name: &str) -> &str {
    OTHERWISE
        .iter()
        .find(|(spec, _)| *spec == name)
        .map_or(name, |(_, theirs)| theirs)
}

/// What Go gives where it is left out, and oci-spec calls missing.
const EMPTY: [(&str, &str); 1] = [("Process", "user")];

impl<'de, A: MapAccess<'de>> Keys<'_, A> {
    /// Gives the field's name for a key of the text.
    fn field(&mut self, key: &Key) -> Result<&'static str, A::Error> {
        let (index, found) = match key {
            Key::Exact(index) => (*index, None),
            Key::Folded(index, found) => (*index, Some(found)),
            Key::Unknown => {
                self.now = Now::Unknown;
                // The name of no field.
                return Ok("");
            }
        };
        let right = self.fields[index];
        let theirs = |(_, name): &&(&str, &str)| *name == right;
        let shown = OTHERWISE.iter().find(theirs).map_or(right, |(spec, _)| spec);
        let at = self.at.below(Part::Key(shown));
        let bit = 1_u64.checked_shl(u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0);
        if let Some(found) = found {
            self.notes.add(&at, || Oddity::Spelled(found.clone()));
        }
        if self.seen & bit != 0 {
            self.notes.add(&at, || Oddity::Repeated);
            if !self.notes.twice(self.at, right) {
                return Err(A::Error::custom(format_args!("{at} is there more than once")));
            }
            // Passed over now: it is read again.
            self.now = Now::Unknown;
            return Ok("");
        }
        self.seen |= bit;
        self.now = Now::Field(index);
        Ok(right)
    }

    /// A field that is not there, and must be something.
    fn absent(&mut self) -> Option<&'static str> {
        let (_, field) = EMPTY.iter().find(|(name, _)| *name == self.name)?;
        let index = self.fields.iter().position(|name| name == field)?;
        let bit = 1 << index;
        if self.seen & bit != 0 {
            return None;
        }
        self.seen |= bit;
        self.now = Now::Absent(index);
        Some(self.fields[index])
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Keys<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let name = match self.inner.next_key_seed(AmongKeys(self.fields))? {
            Some(key) => self.field(&key)?,
            None => match self.absent() {
                Some(name) => name,
                None => return Ok(None),
            },
        };
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        let index = match self.now {
            Now::Unknown => {
                // The derived code passes over it, whatever it is.
                return self.inner.next_value_seed(seed);
            }
            Now::Absent(_) => {
                let nothing = std::iter::empty::<(&str, &str)>();
                return seed.deserialize(MapDeserializer::new(nothing));
            }
            Now::Field(index) => index,
        };
        let of = match self.name {
            "LinuxCapabilities" => Of::Capabilities,
            _ => Of::Anything,
        };
        self.inner.next_value_seed(Seed {
            of_value: seed,
            at: &self.at.below(Part::Key(self.fields[index])),
            notes: self.notes,
            of,
        })
    }
}

/// A value that is read by this module, too.
struct Seed<'a, T> {
    of_value: T,
    at: &'a Place<'a>,
    notes: &'a Notes,
    of: Of,
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T::Value, D::Error> {
        let Self {
            of_value: seed,
            at,
            notes,
            of,
        } = self;
        seed.deserialize(Checked { inner, at, notes, of })
    }
}

/// Which field a key is.
enum Key {
    Exact(usize),
    /// By Go's rule, as it is written.
    Folded(usize, String),
    Unknown,
}

/// Finds a key among these.
struct AmongKeys(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for AmongKeys {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<Key, D::Error> {
        inner.deserialize_str(self)
    }
}

impl Visitor<'_> for AmongKeys {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
        let exact = otherwise(key);
        if let Some(index) = self.0.iter().position(|field| *field == exact) {
            return Ok(Key::Exact(index));
        }
        let same = |field: &&str| field.chars().map(fold).eq(key.chars().map(fold));
        Ok(match self.0.iter().position(same) {
            Some(index) => Key::Folded(index, key.to_owned()),
            None => Key::Unknown,
        })
    }
}

/// The letter that Go's decoder takes this one for: two that are not ASCII are the same as an s and a k.
const fn fold(letter: char) -> char {
    match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use oci_spec::runtime::{LinuxResources, Process, Spec};
    use serde_json::{Value, json};

    use super::*;
    use crate::request::{Read, from_json};

    fn spec(text: &str) -> Result<Read<Spec>, String> {
        from_json(text.as_bytes(), Path::new("config.json")).map_err(|bad| bad.why)
    }

    fn odd<T>(read: &Read<T>) -> Vec<String> {
        read.odd.iter().map(Odd::to_string).collect()
    }

    /// Everything that a config.json may have, as the types write it.
    fn full() -> Value {
        let limits = json!({
            "devices": [{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}],
            "memory": {"limit": 1, "reservation": 1, "swap": 1, "kernel": 1, "kernelTCP": 1, "swappiness": 1,
                       "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true},
            "cpu": {"shares": 1, "quota": 1, "idle": 1, "burst": 1, "period": 1, "realtimeRuntime": 1, "realtimePeriod": 1,
                    "cpus": "0", "mems": "0"},
            "pids": {"limit": 1},
            "blockIO": {"weight": 1, "leafWeight": 1, "weightDevice": [{"major": 1, "minor": 1, "weight": 1, "leafWeight": 1}],
                        "throttleReadBpsDevice": [{"major": 1, "minor": 1, "rate": 1}],
                        "throttleWriteBpsDevice": [{"major": 1, "minor": 1, "rate": 1}],
                        "throttleReadIOPSDevice": [{"major": 1, "minor": 1, "rate": 1}],
                        "throttleWriteIOPSDevice": [{"major": 1, "minor": 1, "rate": 1}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]},
            "rdma": {"mlx": {"hcaHandles": 1, "hcaObjects": 1}},
            "unified": {"a.b": "c"}
        });
        let hook = json!([{"path": "/h", "args": ["h"], "env": ["A=b"], "timeout": 1}]);
        let map = json!([{"hostID": 1, "containerID": 1, "size": 1}]);
        json!({
            "ociVersion": "1.0.2", "hostname": "h", "domainname": "d", "annotations": {"a": "b"},
            "root": {"path": "rootfs", "readonly": true},
            "process": {
                "terminal": true, "consoleSize": {"height": 1, "width": 1}, "args": ["sh"], "env": ["A=b"], "cwd": "/",
                "user": {"uid": 1, "gid": 1, "umask": 1, "additionalGids": [1], "username": "u"},
                "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "inheritable": ["CAP_CHOWN"],
                                 "permitted": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]},
                "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}], "noNewPrivileges": true, "apparmorProfile": "p",
                "oomScoreAdj": 1, "selinuxLabel": "l", "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1},
                "scheduler": {"policy": "SCHED_OTHER", "nice": 1, "priority": 1, "flags": ["SCHED_FLAG_RECLAIM"],
                              "runtime": 1, "deadline": 1, "period": 1},
                "execCPUAffinity": {"initial": "0", "final": "0"}
            },
            "mounts": [{"destination": "/m", "type": "bind", "source": "/s", "options": ["ro"], "uidMappings": map,
                        "gidMappings": map}],
            "hooks": {"prestart": hook, "createRuntime": hook, "createContainer": hook, "startContainer": hook,
                      "poststart": hook, "poststop": hook},
            "linux": {
                "netDevices": {"eth0": {"name": "e"}}, "uidMappings": map, "gidMappings": map, "sysctl": {"a": "b"},
                "resources": limits, "cgroupsPath": "/c", "namespaces": [{"type": "pid", "path": "/p"}],
                "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 1, "fileMode": 1, "uid": 1, "gid": 1}],
                "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86_64"],
                            "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/l", "listenerMetadata": "m",
                            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                                          "args": [{"index": 0, "value": 1, "valueTwo": 1, "op": "SCMP_CMP_EQ"}]}]},
                "rootfsPropagation": "private", "maskedPaths": ["/m"], "readonlyPaths": ["/r"], "mountLabel": "l",
                "intelRdt": {"closID": "c", "l3CacheSchema": "s", "memBwSchema": "s", "schemata": ["s"],
                             "enableCMT": true, "enableMBM": true, "enableMonitoring": true},
                "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
                "personality": {"domain": "LINUX", "flags": []}, "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 1}}
            }
        })
    }

    /// Keys that a caller chooses: Go does not fold these.
    const MAPS: [&str; 6] = [
        "/annotations",
        "/linux/netDevices",
        "/linux/sysctl",
        "/linux/resources/rdma",
        "/linux/resources/unified",
        "/linux/timeOffsets",
    ];

    /// Every object of `value` by its pointer, but those whose keys the caller chooses.
    fn objects(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if !MAPS.contains(&at) {
                    found.push(at.to_owned());
                }
                for (key, below) in map {
                    objects(below, &format!("{at}/{key}"), found);
                }
            }
            Value::Array(list) => {
                for (i, below) in list.iter().enumerate() {
                    objects(below, &format!("{at}/{i}"), found);
                }
            }
            _ => {}
        }
    }

    /// `/linux/devices/0` as messages have it.
    fn shown(pointer: &str) -> String {
        let mut out = String::new();
        for part in pointer.split('/').skip(1) {
            match part.parse::<usize>() {
                Ok(index) => out.push_str(&format!("[{index}]")),
                Err(_) if out.is_empty() => out.push_str(part),
                Err(_) => out.push_str(&format!(".{part}")),
            }
        }
        out
    }

    #[test]
    fn the_spec_is_read_as_the_types_read_it() {
        let text = full().to_string();
        let read = spec(&text).unwrap();
        assert_eq!(odd(&read), [""; 0]);
        // But for what oci-spec has in other letters.
        let mut theirs = full();
        theirs["linux"]["intelRdt"] = serde_json::to_value(read.value.linux().as_ref().unwrap().intel_rdt()).unwrap();
        assert_eq!(theirs["linux"]["intelRdt"]["enableCmt"], json!(true));
        assert_eq!(read.value, serde_json::from_value::<Spec>(theirs).unwrap());
        for word in ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"] {
            let mut config = full();
            config["process"]["scheduler"]["flags"] = json!([word]);
            assert!(spec(&config.to_string()).is_ok(), "{word}");
        }
    }

    #[test]
    fn what_the_types_write_is_read_as_it_was() {
        for spec in [spec(&full().to_string()).unwrap().value, Spec::default()] {
            let written = serde_json::to_string(&spec).unwrap();
            assert_eq!(super::read::<Spec>(written.as_bytes()).unwrap().0, spec);
            assert_eq!(serde_json::from_str::<Spec>(&written).unwrap(), spec);
        }
    }

    #[test]
    fn a_list_is_no_object_wherever_the_spec_has_one() {
        let mut places = Vec::new();
        objects(&full(), "", &mut places);
        places.extend(MAPS.map(str::to_owned));
        assert!(places.len() > 50, "{}", places.len());
        for place in places {
            let mut config = full();
            let at = config.pointer_mut(&place).unwrap();
            *at = at.as_object().unwrap().values().cloned().collect();
            let why = spec(&config.to_string()).err();
            assert!(
                why.as_ref().is_some_and(|why| why.contains("invalid type: sequence")),
                "{place}: {why:?}"
            );
        }
    }

    #[test]
    fn a_key_of_any_case_is_the_spec_s_and_told() {
        let mut places = Vec::new();
        objects(&full(), "", &mut places);
        let right = spec(&full().to_string()).unwrap().value;
        for place in places {
            for key in full().pointer(&place).unwrap().as_object().unwrap().keys() {
                let mut config = full();
                let map = config.pointer_mut(&place).unwrap().as_object_mut().unwrap();
                let value = map.remove(key).unwrap();
                let other = key.to_uppercase();
                map.insert(other.clone(), value);
                let read = spec(&config.to_string()).unwrap();
                let field = shown(&format!("{place}/{key}"));
                assert_eq!(
                    odd(&read),
                    [format!(
                        "{field}: the key is written {other:?}; it is taken as the spec's"
                    )]
                );
                assert!(read.value == right, "{field}");
            }
        }
    }

    #[test]
    fn letters_that_go_folds_are_folded() {
        let config = r#"{"linux":{"ma\u017f\u212aedPaths":["/a"],"masked_paths":["/b"]}}"#;
        let read = spec(config).unwrap();
        assert_eq!(read.odd.len(), 1);
        let linux = read.value.linux().as_ref().unwrap();
        assert_eq!(linux.masked_paths().as_ref().unwrap(), &["/a"]);
    }

    #[test]
    fn a_key_that_is_there_twice_is_read_as_go_reads_it_and_told() {
        let read = |linux: &str| {
            let read = spec(&format!(r#"{{"linux":{linux}}}"#)).unwrap();
            assert!(!read.odd.is_empty(), "{linux}");
            serde_json::to_value(read.value.linux()).unwrap()
        };
        for (linux, wanted) in [
            (
                r#"{"maskedPaths":["/a"],"maskedPaths":["/b"]}"#,
                json!({"maskedPaths": ["/b"]}),
            ),
            (
                r#"{"MaskedPaths":["/a"],"maskedPaths":["/b"]}"#,
                json!({"maskedPaths": ["/b"]}),
            ),
            (
                r#"{"maskedPaths":["/a"],"Maskedpaths":["/b"]}"#,
                json!({"maskedPaths": ["/b"]}),
            ),
            (r#"{"maskedPaths":["/a"],"maskedPaths":null}"#, json!({})),
            (
                r#"{"resources":{"cpu":{"shares":1},"CPU":{"cpus":"0"},"pids":{"limit":1}}}"#,
                json!({"resources": {"cpu": {"shares": 1, "cpus": "0"}, "pids": {"limit": 1}}}),
            ),
            (
                r#"{"resources":{"cpu":{"shares":1,"quota":2}},"Resources":{"Cpu":{"Shares":3}}}"#,
                json!({"resources": {"cpu": {"shares": 3, "quota": 2}}}),
            ),
            (
                r#"{"sysctl":{"a":"1"},"sysctl":{"a":"2","b":"3"}}"#,
                json!({"sysctl": {"a": "2", "b": "3"}}),
            ),
        ] {
            assert_eq!(read(linux), wanted, "{linux}");
        }
        let told = spec(r#"{"linux":{"maskedPaths":["/a"],"maskedPaths":[]}}"#).unwrap();
        assert_eq!(
            odd(&told),
            ["linux.maskedPaths: the name is there more than once; the last one is taken"]
        );
        // In bounds.
        let many = |count| spec(&format!("{{{}}}", vec![r#""hostname":"a""#; count].join(",")));
        assert!(many(ODD).is_ok());
        assert!(many(1000).unwrap_err().starts_with("hostname is there more than once"));
        let large = format!(
            r#"{{"hostname":"a","hostname":"b","annotations":{{"a":"{}"}}}}"#,
            " ".repeat(LARGEST)
        );
        assert!(
            spec(&large)
                .unwrap_err()
                .starts_with("hostname is there more than once")
        );
        let read = spec(r#"{"annotations":{"a":"1","a":"2","A":"3"}}"#).unwrap();
        assert_eq!(
            odd(&read),
            ["annotations.a: the name is there more than once; the last one is taken"]
        );
        let all = read.value.annotations().as_ref().unwrap();
        assert_eq!((all.len(), all["a"].as_str()), (2, "2"));
    }

    #[test]
    fn null_is_zero_or_false_and_told() {
        let text = r#"{"ociVersion": "1.0.2", "process": {"cwd": "/", "user": {"uid": null, "gid": null, "additionalGids": [7, null]}},
            "linux": {"resources": {"pids": {"limit": null}, "devices": [{"allow": null, "access": "rwm"}], "cpu": {"shares": null}}}}"#;
        let read = spec(text).unwrap();
        let user = read.value.process().as_ref().unwrap().user();
        assert_eq!(
            (user.uid(), user.gid(), user.additional_gids().as_deref()),
            (0, 0, Some([7, 0].as_slice()))
        );
        let resources = read.value.linux().as_ref().unwrap().resources().as_ref().unwrap();
        assert!(!resources.devices().as_ref().unwrap()[0].allow());
        let told = "it is null; it is taken as zero, or false";
        assert_eq!(
            odd(&read),
            // Where a number may be left out, null is left out.
            [
                "process.user.uid",
                "process.user.gid",
                "process.user.additionalGids[1]",
                "linux.resources.pids.limit",
                "linux.resources.devices[0].allow"
            ]
            .map(|field| format!("{field}: {told}"))
        );
        for bad in ["true", "[]", "{}", "1.5", "\"1\"", "-1"] {
            let text = format!(r#"{{"ociVersion": "1.0.2", "process": {{"cwd": "/", "user": {{"uid": {bad}}}}}}}"#);
            assert!(spec(&text).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_capability_that_nobody_has_is_left_out_and_told() {
        let process = r#"{"args":["sh"],"cwd":"/","capabilities":{"bounding":["CAP_CHOWN","CAP_KARAOKE","chown",""]}}"#;
        let read: Read<Process> = from_json(process.as_bytes(), Path::new("p")).unwrap();
        assert_eq!(
            read.value
                .capabilities()
                .as_ref()
                .unwrap()
                .bounding()
                .as_ref()
                .unwrap()
                .len(),
            1
        );
        let told = odd(&read);
        assert_eq!(told.len(), 3);
        assert!(
            told[0].starts_with(r#"capabilities.bounding: "CAP_KARAOKE" is no capability that is known"#),
            "{told:?}"
        );
        assert!(told[1].contains("it is written CAP_CHOWN"), "{told:?}");
    }

    #[test]
    fn who_runs_is_root_where_no_user_is_named_and_a_word_is_no_object() {
        let process = r#"{"args":["sh"],"cwd":"/"}"#;
        let read: Read<Process> = from_json(process.as_bytes(), Path::new("p")).unwrap();
        assert_eq!((read.value.user().uid(), read.value.user().gid()), (0, 0));
        let bad = r#"{"linux":{"namespaces":[{"type":{"pid":null}}]}}"#;
        assert!(spec(bad).err().unwrap().contains("expected a string"));
        let bad: Result<Read<LinuxResources>, _> = from_json(br#"{"memory":[1]}"#, Path::new("r"));
        assert!(bad.unwrap_err().why.contains("expected an object for memory"));
    }

    #[test]
    fn what_is_told_is_bounded() {
        let all: Vec<String> = (0..1000).map(|i| format!("\"a{i}\":\"\",\"a{i}\":\"\"")).collect();
        let read = spec(&format!(r#"{{"annotations":{{{}}}}}"#, all.join(","))).unwrap();
        assert_eq!(read.odd.len(), ODD);
    }
}
