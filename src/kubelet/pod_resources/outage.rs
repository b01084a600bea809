//! Which answers of the kubelet are worth a log line. Pure.

use std::time::Instant;

use crate::util::log_rate_limit::LogRateLimit;

/// From how many failures in a row on a warning is due: one is usually a kubelet that restarts.
const WARN_FROM: u32 = 2;

/// A line to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogLine {
    /// There is no socket.
    NoSocket,
    /// The call failed, so many times in a row.
    Failed { failures: u32 },
    /// The call succeeds again, after one of the other lines.
    Recovered,
}

/// The failures so far.
#[derive(Debug, Default)]
pub(super) struct Outage {
    no_socket: bool,
    failures: u32,
    logged: bool,
    limit: LogRateLimit,
}

impl Outage {
    /// Takes an answer, where `Ok(None)` means that there is no socket.
    pub(super) fn update<T, E>(
        &mut self,
        now: Instant,
        answer: &Result<Option<T>, E>,
    ) -> Option<LogLine> {
        let had_socket = !std::mem::replace(&mut self.no_socket, matches!(answer, Ok(None)));
        match answer {
            Ok(Some(_)) => {
                self.failures = 0;
                std::mem::take(&mut self.logged).then_some(LogLine::Recovered)
            }
            Ok(None) => {
                self.failures = 0;
                self.logged = true;
                had_socket.then_some(LogLine::NoSocket)
            }
            Err(_) => {
                self.failures = self.failures.saturating_add(1);
                let due = self.failures >= WARN_FROM && self.limit.allow_key_at((), now).is_some();
                self.logged |= due;
                due.then_some(LogLine::Failed { failures: self.failures })
            }
        }
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::LogLine::{Failed, NoSocket, Recovered};
    use super::*;

    const THERE: Result<Option<()>, ()> = Ok(Some(()));
    const ABSENT: Result<Option<()>, ()> = Ok(None);
    const FAILED: Result<Option<()>, ()> = Err(());

    fn lines(answers: &[(u64, Result<Option<()>, ()>)]) -> Vec<Option<LogLine>> {
        let (mut outage, start) = (Outage::default(), Instant::now());
        answers
            .iter()
            .map(|(at, answer)| outage.update(start + Duration::from_secs(*at), answer))
            .collect()
    }

    #[test]
    fn a_missing_socket_is_logged_once_and_so_is_its_return() {
        assert_eq!(
            lines(&[(0, ABSENT), (10, ABSENT), (20, THERE), (30, THERE), (40, ABSENT)]),
            [Some(NoSocket), None, Some(Recovered), None, Some(NoSocket)]
        );
    }

    #[test]
    fn a_failure_that_lasts_is_logged_at_most_once_a_minute() {
        assert_eq!(
            lines(&[(0, FAILED), (10, THERE), (20, FAILED), (30, THERE)]),
            [None; 4],
            "a kubelet restarts"
        );
        assert_eq!(
            lines(&[
                (0, FAILED),
                (10, FAILED),
                (20, FAILED),
                (69, FAILED),
                (70, FAILED),
                (80, THERE),
                (90, THERE)
            ]),
            [
                None,
                Some(Failed { failures: 2 }),
                None,
                None,
                Some(Failed { failures: 5 }),
                Some(Recovered),
                None
            ]
        );
        // Flapping does not get around the limit.
        let flapping: Vec<_> =
            (0..20).map(|n| (n * 5, if n % 3 == 2 { THERE } else { FAILED })).collect();
        let logged =
            lines(&flapping).into_iter().filter(|line| matches!(line, Some(Failed { .. }))).count();
        assert_eq!(logged, 2, "in 95 s");
    }
}
