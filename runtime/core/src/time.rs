//! Times as callers read them (RFC 3339, in UTC), and as they write them.

use std::time::Duration;

/// Writes a time since 1970: `2026-11-22T02:13:29Z`.
pub fn rfc3339(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let of_day = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// Writes a time since 1970 with its nanoseconds: `2026-11-22T02:13:29.012345678Z`, what a state's `created` holds.
pub fn rfc3339_nanos(since_epoch: Duration) -> String {
    let mut text = rfc3339(since_epoch);
    text.pop();
    format!("{text}.{:09}Z", since_epoch.subsec_nanos())
}

/// Reads a timeout in seconds as a time that can be added to a clock's and to others: the largest number cannot. Nobody waits for ten years.
/// A number below zero is no time at all.
pub fn timeout(seconds: i64) -> Duration {
    const LONGEST: u64 = 10 * 365 * 86_400;
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(LONGEST))
}

/// Days since 1970-01-01 as year, month and day (Hinnant, «chrono-compatible low-level date algorithms», civil_from_days).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), text);
        }
        assert_eq!(rfc3339_nanos(Duration::new(1, 5)), "1970-01-01T00:00:01.000000005Z");
    }
}
