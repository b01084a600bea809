//! Points in time, for people and other programs: RFC 3339 in UTC.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Within it a time of day needs no date.
const DAY: Duration = Duration::from_secs(86_400);

/// A point in time, written as RFC 3339 in UTC with milliseconds: "2026-11-27T13:03:37.250Z".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(SystemTime);

impl Timestamp {
    /// This point in time.
    #[must_use]
    pub const fn of(time: SystemTime) -> Self {
        Self(time)
    }

    /// Seconds since the Unix epoch; zero for what was before.
    #[must_use]
    pub fn unix_seconds(self) -> f64 {
        self.0.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }

    /// The time from an earlier point to this one; zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.duration_since(earlier.0).unwrap_or_default()
    }

    /// The point this much earlier.
    #[must_use]
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.checked_sub(time).unwrap_or(UNIX_EPOCH))
    }

    /// The time of day for people: "03:12 UTC"; with the date if it is a day or more from `now`.
    #[must_use]
    pub fn clock(self, now: Self) -> String {
        let text = self.to_string();
        let (date, time) = (text.get(..10).unwrap_or_default(), text.get(11..16));
        let time = time.unwrap_or_default();
        match self.since(now).max(now.since(self)) < DAY {
            true => format!("{time} UTC"),
            false => format!("{date} {time} UTC"),
        }
    }
}

/// "5 s", "12 min", "3 h", "40 d": the largest unit of which there are two, or the smallest.
#[must_use]
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The formatter knows the years 1970 to 9999.
        let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        humantime::format_rfc3339_millis(self.0.clamp(UNIX_EPOCH, last)).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_in_time_is_written_and_read_back() {
        let at = Timestamp::of(UNIX_EPOCH + Duration::from_millis(1_795_784_617_250));
        assert_eq!(at.to_string(), "2026-11-27T13:03:37.250Z");
        let read: Timestamp = serde_json::from_str(&serde_json::to_string(&at).unwrap()).unwrap();
        assert_eq!(read, at);
        assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
        let before = Timestamp::of(UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(before.to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_time_of_day_has_its_date_where_that_is_not_clear() {
        let at = |seconds| Timestamp::of(UNIX_EPOCH + Duration::from_secs(seconds));
        let now = at(1_795_784_617);
        assert_eq!(at(1_795_784_617 - 3_600).clock(now), "12:03 UTC");
        assert_eq!(at(1_795_784_617 + 60).clock(now), "13:04 UTC");
        assert_eq!(at(1_795_784_617 - 90_000).clock(now), "2026-11-26 12:03 UTC");
        assert_eq!(now.before(Duration::from_secs(60)), at(1_795_784_557));
    }

    #[test]
    fn a_duration_has_a_unit_that_fits() {
        for (seconds, expected) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (200_000, "2 d")]
        {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        }
    }
}
