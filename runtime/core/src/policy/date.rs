//! Calendar dates: `expires = 2026-12-31`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use toml::value::Datetime;

/// A day, in UTC. TOML's own, or the same between quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(toml::value::Date);

impl Date {
    /// Gives the day of a time since 1970.
    pub fn of(since_epoch: Duration) -> Self {
        let epoch = toml::value::Date {
            year: 1970,
            month: 1,
            day: 1,
        };
        // Ten characters that `rfc3339` writes. A year beyond 9999 is a broken clock: it shows as 1970.
        let day = crate::time::rfc3339(since_epoch)
            .get(..10)
            .and_then(|day| day.parse().ok());
        day.unwrap_or(Self(epoch))
    }
}

impl Date {
    /// Gives the day so many days later. The last that can be written, where there is none.
    #[must_use]
    pub fn after(self, days: u32) -> Self {
        let mut date = self.0;
        for _ in 0..days {
            if date.day < days_of(date.year, date.month) {
                date.day += 1;
            } else if date.month < 12 {
                (date.month, date.day) = (date.month + 1, 1);
            } else if date.year < 9999 {
                (date.year, date.month, date.day) = (date.year + 1, 1, 1);
            }
        }
        Self(date)
    }
}

const fn days_of(year: u16, month: u8) -> u8 {
    match month {
        2 if (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn bad(text: &dyn fmt::Display) -> String {
    format!("{text} is not a date: write 2026-12-31")
}

impl TryFrom<Datetime> for Date {
    type Error = String;

    fn try_from(value: Datetime) -> Result<Self, String> {
        match value {
            Datetime {
                date: Some(date),
                time: None,
                offset: None,
            } => Ok(Self(date)),
            other => Err(bad(&other)),
        }
    }
}

impl FromStr for Date {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value: Datetime = text.parse().map_err(|_| bad(&format_args!("{text:?}")))?;
        value.try_into()
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a date: write 2026-12-31")]
        enum Written {
            Toml(Datetime),
            Quoted(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Toml(value) => value.try_into(),
            Written::Quoted(text) => text.parse(),
        }
        .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_that_are_and_days_that_are_not() {
        for good in ["2026-12-31", "2024-02-29", "2000-02-29", "0001-01-01"] {
            assert_eq!(good.parse::<Date>().unwrap().to_string(), good);
        }
        for bad in [
            "2026-13-01",
            "2026-02-29",
            "1900-02-29",
            "2026-1-1",
            "2026-01-00",
            "31.12.2026",
            "",
            "2026-12-31Z",
            "2026-12-31T00:00:00",
            "12:00:00",
            "+026-12-31",
        ] {
            assert!(bad.parse::<Date>().is_err(), "{bad}");
        }
        for (day, days, later) in [
            ("2026-11-28", 30, "2026-12-28"),
            ("2026-12-31", 1, "2027-01-01"),
            ("2024-02-28", 1, "2024-02-29"),
            ("2100-02-28", 1, "2100-03-01"),
            ("2026-01-01", 365, "2027-01-01"),
            ("9999-12-30", 9, "9999-12-31"),
        ] {
            assert_eq!(
                day.parse::<Date>().unwrap().after(days),
                later.parse().unwrap(),
                "{day}"
            );
        }
        let day = Date::of(Duration::from_hours(264_384));
        assert_eq!(day.to_string(), "2000-02-29");
        assert!(day < "2000-03-01".parse().unwrap() && day > "1999-12-31".parse().unwrap());
    }

    #[test]
    fn a_policy_has_it_with_and_without_quotes() {
        #[derive(Deserialize)]
        struct Holder {
            expires: Date,
        }
        for text in ["expires = 2026-12-31", "expires = \"2026-12-31\""] {
            assert_eq!(
                toml::from_str::<Holder>(text).unwrap().expires.to_string(),
                "2026-12-31"
            );
        }
        for text in ["expires = 2026-12-31T00:00:00Z", "expires = 5", "expires = \"soon\""] {
            let error = toml::from_str::<Holder>(text).err().unwrap().to_string();
            assert!(error.contains("write 2026-12-31"), "{error}");
        }
    }
}
