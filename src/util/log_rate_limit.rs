//! A rate limit for log lines that would repeat.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;

/// Time between two lines of one key.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// Allows one log line a minute for each key; the key of a single line is `()`.
#[derive(Debug)]
pub struct LogRateLimit<K = ()>(Mutex<BTreeMap<K, Line>>);

#[derive(Debug)]
struct Line {
    logged: Instant,
    /// Lines suppressed since then.
    suppressed: u64,
}

impl LogRateLimit {
    /// Whether the line may be logged now.
    #[must_use]
    pub fn allow(&self) -> bool {
        self.allow_key(()).is_some()
    }
}

impl<K: Ord> LogRateLimit<K> {
    /// A limit that allows the first line of each key.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// How many lines of this key were suppressed since its last one, if one may be logged now.
    #[must_use]
    pub fn allow_key(&self, key: K) -> Option<u64> {
        self.allow_key_at(key, Instant::now())
    }

    /// As [`Self::allow_key`], at a given time.
    #[must_use]
    pub fn allow_key_at(&self, key: K, now: Instant) -> Option<u64> {
        let recent = |line: &Line| now.saturating_duration_since(line.logged) < INTERVAL;
        let mut lines = lock(&self.0);
        if let Some(line) = lines.get_mut(&key) {
            if recent(line) {
                line.suppressed = line.suppressed.saturating_add(1);
                return None;
            }
            line.logged = now;
            return Some(std::mem::take(&mut line.suppressed));
        }
        // Keys that come from outside, such as error codes, must not add up.
        lines.retain(|_, line| line.suppressed > 0 || recent(line));
        lines.insert(key, Line { logged: now, suppressed: 0 });
        Some(0)
    }
}

impl<K: Ord> Default for LogRateLimit<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_allowed_once_a_minute() {
        let (limit, start) = (LogRateLimit::new(), Instant::now());
        let allowed = [0, 1, 59, 60, 61, 119, 120]
            .map(|seconds| limit.allow_key_at((), start + Duration::from_secs(seconds)).is_some());
        assert_eq!(allowed, [true, false, false, true, false, false, true]);
    }

    #[test]
    fn keys_do_not_suppress_each_other_and_suppressed_lines_are_counted() {
        let (limit, start) = (LogRateLimit::new(), Instant::now());
        let lines = [(999, 0), (999, 1), (15, 2), (999, 59), (999, 60), (15, 61), (15, 62)];
        let suppressed = lines
            .map(|(code, seconds)| limit.allow_key_at(code, start + Duration::from_secs(seconds)));
        assert_eq!(suppressed, [Some(0), None, Some(0), None, Some(2), None, Some(1)]);
    }

    #[test]
    fn a_key_that_is_quiet_for_a_minute_is_forgotten() {
        let (limit, start) = (LogRateLimit::new(), Instant::now());
        for key in 0..100 {
            let _ = limit.allow_key_at(key, start + INTERVAL * key);
        }
        assert_eq!(limit.0.lock().unwrap().len(), 1);
    }
}
