//! What Go makes of a field that is written more than once: the later one goes on where the earlier one ended, field by field; anything but an
//! object is the later one's. Level permissive takes a config.json so; it is rare, and read again from a tree of its own.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::fold;

/// One step from an object or list to what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// A field that an object has more than once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Twice {
    pub(super) object: Vec<Step>,
    pub(super) field: &'static str,
}

/// JSON as it is written: an object is a list of what it has, in its order.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Leaf(Value),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// Makes one of each of these fields, the outermost first.
    pub(super) fn merge(&mut self, mut all: Vec<Twice>) {
        all.sort_by_key(|twice| twice.object.len());
        for Twice { object, field } in all {
            if let Some(Self::Object(entries)) = self.at(&object) {
                merge_field(entries, field);
            }
        }
    }

    fn at(&mut self, steps: &[Step]) -> Option<&mut Self> {
        let mut at = self;
        for step in steps {
            at = match (at, step) {
                (Self::Object(entries), Step::Key(key)) => {
                    let exact = entries.iter().rposition(|(name, _)| name == key);
                    let found = exact.or_else(|| entries.iter().rposition(|(name, _)| same(name, key)))?;
                    &mut entries[found].1
                }
                (Self::List(items), Step::Index(index)) => items.get_mut(*index)?,
                _ => return None,
            };
        }
        Some(at)
    }

    /// As serde_json has it.
    pub(super) fn into_value(self) -> Value {
        match self {
            Self::Leaf(value) => value,
            Self::List(items) => items.into_iter().map(Self::into_value).collect(),
            Self::Object(entries) => {
                let all = entries.into_iter().map(|(key, value)| (key, value.into_value()));
                Value::Object(all.collect::<Map<_, _>>())
            }
        }
    }
}

fn same(name: &str, field: &str) -> bool {
    name.chars().map(fold).eq(field.chars().map(fold))
}

fn merge_field(entries: &mut Vec<(String, Tree)>, field: &str) {
    let mut merged: Option<Tree> = None;
    let mut rest = Vec::with_capacity(entries.len());
    for (name, value) in entries.drain(..) {
        if !same(&name, field) {
            rest.push((name, value));
            continue;
        }
        merged = Some(match (merged, value) {
            (Some(Tree::Object(mut earlier)), Tree::Object(later)) => {
                earlier.extend(later);
                Tree::Object(earlier)
            }
            (_, later) => later,
        });
    }
    rest.extend(merged.map(|value| (field.to_owned(), value)));
    *entries = rest;
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyTree)
    }
}

struct AnyTree;

/// Every kind of leaf.
macro_rules! leaves {
    ($($visit:ident $of:ty),*) => {
        $(fn $visit<E: Error>(self, value: $of) -> Result<Tree, E> {
            Ok(Tree::Leaf(value.into()))
        })*
    };
}

impl<'de> Visitor<'de> for AnyTree {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    leaves! { visit_bool bool, visit_i64 i64, visit_u64 u64, visit_f64 f64, visit_str &str, visit_string String }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Object(entries))
    }
}
