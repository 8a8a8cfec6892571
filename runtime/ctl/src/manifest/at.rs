//! Walks a value that was read, and knows what each part is called, so that an answer can name the place in the person's own file.

use std::fmt;

use serde_json::Value;

use gabion_core::policy::keys::nearest;

/// What is wrong at a place of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) place: String,
    pub(crate) why: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct At<'a> {
    pub(crate) value: &'a Value,
    pub(crate) place: String,
}

/// What a place that is not there has.
static NOTHING: Value = Value::Null;

impl<'a> At<'a> {
    pub(crate) fn top(value: &'a Value) -> Self {
        Self {
            value,
            place: String::new(),
        }
    }

    /// The value of a key; null where it is not there.
    pub(crate) fn get(&self, key: &str) -> Self {
        let place = if self.place.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.place)
        };
        Self {
            value: self.value.get(key).unwrap_or(&NOTHING),
            place,
        }
    }

    /// The value at the end of several keys.
    pub(crate) fn way(&self, keys: &[&str]) -> Self {
        keys.iter().fold(self.clone(), |at, key| at.get(key))
    }

    pub(crate) fn is_there(&self) -> bool {
        !self.value.is_null()
    }

    pub(crate) fn wrong(&self, why: impl Into<String>) -> Wrong {
        Wrong {
            place: if self.place.is_empty() {
                "the document".to_owned()
            } else {
                self.place.clone()
            },
            why: why.into(),
        }
    }

    /// True, false, or not there. `y` is a word of YAML 1.1 for it.
    pub(crate) fn truth(&self) -> Result<Option<bool>, Wrong> {
        match self.value {
            Value::Null => Ok(None),
            Value::Bool(word) => Ok(Some(*word)),
            Value::String(word) => match word.as_str() {
                "true" | "y" | "Y" => Ok(Some(true)),
                "false" | "n" | "N" => Ok(Some(false)),
                _ => Err(self.wrong(format!("{word:?} is neither true nor false"))),
            },
            _ => Err(self.wrong("neither true nor false")),
        }
    }

    pub(crate) fn is_true(&self) -> Result<bool, Wrong> {
        Ok(self.truth()?.unwrap_or_default())
    }

    pub(crate) fn text(&self) -> Result<Option<String>, Wrong> {
        match self.value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            Value::Number(number) => Ok(Some(number.to_string())),
            Value::Bool(word) => Ok(Some(word.to_string())),
            _ => Err(self.wrong("not a text")),
        }
    }

    pub(crate) fn number(&self) -> Result<Option<i64>, Wrong> {
        match self.value {
            Value::Null => Ok(None),
            Value::Number(number) => match number.as_i64() {
                Some(number) => Ok(Some(number)),
                None => Err(self.wrong("not a whole number")),
            },
            Value::String(text) => match text.trim().parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.wrong(format!("{text:?} is not a whole number"))),
            },
            _ => Err(self.wrong("not a whole number")),
        }
    }

    /// An id of a user or a group.
    pub(crate) fn id(&self) -> Result<Option<u32>, Wrong> {
        let number = self.number()?;
        let id = |number| u32::try_from(number).map_err(|_| self.wrong(format!("{number} is no id")));
        number.map(id).transpose()
    }

    /// The members of a list; none where it is not there.
    pub(crate) fn list(&self) -> Result<Vec<Self>, Wrong> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Array(list) => {
                let member = |(i, value)| Self {
                    value,
                    place: format!("{}[{i}]", self.place),
                };
                Ok(list.iter().enumerate().map(member).collect())
            }
            _ => Err(self.wrong("not a list")),
        }
    }

    /// A list of texts.
    pub(crate) fn texts(&self) -> Result<Vec<String>, Wrong> {
        let one = |at: &Self| at.text()?.ok_or_else(|| at.wrong("nothing"));
        self.list()?.iter().map(one).collect()
    }

    /// A text, or a list of texts: as many keys of compose files may be.
    pub(crate) fn one_or_more(&self) -> Result<Vec<String>, Wrong> {
        match self.value {
            Value::Array(_) => self.texts(),
            _ => Ok(self.text()?.into_iter().collect()),
        }
    }

    /// The members of a map; none where it is not there.
    pub(crate) fn map(&self) -> Result<Vec<(String, Self)>, Wrong> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Object(map) => Ok(map.keys().map(|key| (key.clone(), self.get(key))).collect()),
            _ => Err(self.wrong("not a map")),
        }
    }

    /// Says of each key that nobody knows here what it may have been meant for.
    pub(crate) fn unknown(&self, known: &[&str], notes: &mut Vec<String>) -> Result<(), Wrong> {
        for (key, at) in self.map()? {
            if known.contains(&key.as_str()) || key.starts_with("x-") {
                continue;
            }
            let folded = known.iter().find(|name| name.eq_ignore_ascii_case(&key)).copied();
            let meant = folded.or_else(|| nearest(&key, known.iter().copied()));
            let meant = meant
                .map(|meant| format!("; did you mean {meant}?"))
                .unwrap_or_default();
            notes.push(format!(
                "{}: an unknown key, so nothing was made of it{meant}",
                at.place
            ));
        }
        Ok(())
    }
}
