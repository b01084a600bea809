//! Durations as Go writes them: `10s`, `1m30s`, `1.5h`. A bare number counts nanoseconds, and
//! `infinite` is a word.

use std::time::Duration;

/// The units, the longest first, with their nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ns", 1),
];

/// The duration that `text` states, in Go's syntax. Negative ones are none of ours.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let (_, nanoseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(scaled(digits, *nanoseconds)?)?;
        rest = after;
    }
    // Go counts in 63 bits.
    i64::try_from(total).ok().map(|_| Duration::from_nanos(total))
}

/// `digits`, which may have a fraction, times `unit`; what is smaller than a nanosecond is dropped.
fn scaled(digits: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let fraction = fraction.bytes().take(18).fold((0_u128, 1_u128), |(value, scale), digit| {
        (value * 10 + u128::from(digit.wrapping_sub(b'0')), scale * 10)
    });
    let fraction = u64::try_from(fraction.0 * u128::from(unit) / fraction.1).ok()?;
    whole.checked_mul(unit)?.checked_add(fraction)
}

/// `duration` in Go's syntax, so that it reads back the same.
pub(super) fn format(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, nanoseconds) in UNITS.iter().filter(|(name, _)| name.is_ascii()) {
        if rest >= *nanoseconds {
            text.push_str(&format!("{}{name}", rest / nanoseconds));
            rest %= nanoseconds;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_durations_are_read_and_nothing_else() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("2µs", 2_000),
            ("300ms", 300_000_000),
            ("+1ns", 1),
        ] {
            assert_eq!(parse(text), Some(Duration::from_nanos(nanoseconds)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1d", "1..5s", ".s", "1 s", "9999999h", "1s ", "+"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_duration_reads_back_as_written() {
        for nanoseconds in
            [0, 1, 999, 1_000_000, 10_000_000_000, 3_661_001_001_001, 86_400_000_000_000]
        {
            let duration = Duration::from_nanos(nanoseconds);
            assert_eq!(parse(&format(duration)), Some(duration));
        }
        assert_eq!(format(Duration::from_secs(90)), "1m30s");
    }
}
