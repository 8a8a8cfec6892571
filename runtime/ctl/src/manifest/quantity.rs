//! Kubernetes' quantities: `512Mi`, `1.5`, `250m`, `1e3`.

/// An amount in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantity(i128);

impl Quantity {
    pub(crate) fn thousandths(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// Rounded up, as the API server does.
    pub(crate) fn whole(self) -> i64 {
        i64::try_from(self.0.saturating_add(999).div_euclid(1000)).unwrap_or(i64::MAX)
    }
}

pub(crate) fn parse(text: &str) -> Option<Quantity> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-' || c == '+'));
    let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
    let thousandths = decimal(digits)?;
    let times: i128 = match unit {
        "" => 1,
        "m" => return Some(Quantity(thousandths.div_euclid(1000))),
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        other => {
            let power: u32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            10_i128.checked_pow(power.min(18))?
        }
    };
    Some(Quantity(thousandths.checked_mul(times)?))
}

/// Thousandths of a plain number, of at most three decimals and eighteen digits before them.
fn decimal(digits: &str) -> Option<i128> {
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.trim_start_matches(['-', '+']).is_empty() && part.is_empty() {
        return None;
    }
    if whole.len() > 18 || !part.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let negative = whole.starts_with('-');
    let whole: i128 = match whole.trim_start_matches(['-', '+']) {
        "" => 0,
        word => word.parse().ok()?,
    };
    let part: i128 = format!("{part:0<3}").get(..3)?.parse().ok()?;
    let all = whole * 1000 + part;
    Some(if negative { -all } else { all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_an_api_server_reads_them() {
        let whole = |text: &str| parse(text).map(Quantity::whole);
        for (text, amount) in [
            ("512Mi", 512 << 20),
            ("1G", 1_000_000_000),
            ("1.5Gi", 3 << 29),
            ("128974848", 128_974_848),
            ("1e3", 1000),
            ("100m", 1),
            ("0.5", 1),
        ] {
            assert_eq!(whole(text), Some(amount), "{text}");
        }
        assert_eq!(parse("250m").map(Quantity::thousandths), Some(250));
        assert_eq!(parse("2").map(Quantity::thousandths), Some(2000));
        for text in ["", "x", "1X", "1..2", "12MiB", "99999999999999999999999Pi", "-"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
