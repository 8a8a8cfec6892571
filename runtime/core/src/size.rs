//! Sizes in bytes as people write them: `64k`, `16m`, `2g`, or plain bytes.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Why a text is not a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SizeError {
    NotANumber(String),
    TooLarge(String),
}

impl std::fmt::Display for SizeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotANumber(s) => write!(f, "{s:?} is not a size: write bytes, or a number with k, m or g"),
            Self::TooLarge(s) => write!(f, "{s:?} is too large for a size in bytes"),
        }
    }
}

impl std::str::FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "ki" | "kib" => 10,
            "m" | "mb" | "mi" | "mib" => 20,
            "g" | "gb" | "gi" | "gib" => 30,
            _ => return Err(SizeError::NotANumber(text.to_owned())),
        };
        if digits.is_empty() {
            return Err(SizeError::NotANumber(text.to_owned()));
        }
        let number: u64 = digits.parse().map_err(|_| SizeError::TooLarge(text.to_owned()))?;
        number
            .checked_mul(1 << shift)
            .map(Size)
            .ok_or_else(|| SizeError::TooLarge(text.to_owned()))
    }
}

/// For a person who reads: `512 MiB`; what is no whole number of a unit has its bytes beside it.
pub fn in_words(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let Some((shift, unit)) = units.into_iter().find(|(shift, _)| bytes >> shift > 0) else {
        return format!("{bytes} bytes");
    };
    // The largest unit that it is a whole number of, as long as that number can be read at a glance.
    let whole = units
        .into_iter()
        .find(|(shift, _)| bytes.trailing_zeros() >= *shift && (1..100_000).contains(&(bytes >> shift)));
    if let Some((shift, unit)) = whole {
        return format!("{} {unit}", bytes >> shift);
    }
    let tenths = (u128::from(bytes) * 10) >> shift;
    format!("{}.{} {unit} ({bytes})", tenths / 10, tenths % 10)
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (shift, unit) in [(30, "g"), (20, "m"), (10, "k")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_trip() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("64k", 65536),
            ("16M", 16 << 20),
            ("2g", 2 << 30),
            ("1Gi", 1 << 30),
        ] {
            assert_eq!(text.parse::<Size>().unwrap(), Size(bytes), "{text}");
        }
        assert_eq!(Size(16 << 20).to_string(), "16m");
        assert_eq!(Size(1000).to_string(), "1000");
    }

    #[test]
    fn what_is_not_a_size_is_an_error() {
        for text in ["", "m", "-1", "1.5g", "10q", "99999999999999999999", "99999999999g"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_read_at_a_glance() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1000, "1000 bytes"),
            (64 << 10, "64 KiB"),
            (64 << 20, "64 MiB"),
            (1536 << 20, "1536 MiB"),
            (2 << 30, "2 GiB"),
            ((2 << 30) - 4096, "1.9 GiB (2147479552)"),
            (12_487_712_768, "11.6 GiB (12487712768)"),
            (u64::MAX, "17179869183.9 GiB (18446744073709551615)"),
        ] {
            assert_eq!(in_words(bytes), text);
        }
    }
}
