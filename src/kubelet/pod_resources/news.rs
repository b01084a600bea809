//! What is worth saying of the answers of the kubelet. Pure.

use std::time::Duration;

use device::health::Moment;

/// How often a failure that lasts is said.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// From how many failures in a row on one is worth a warning: the first is a kubelet that restarts,
/// most of the time.
const WORTH_A_WARNING: u32 = 2;

/// What is to be said of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing new.
    Nothing,
    /// There is no socket.
    Absent,
    /// There is no answer, so many times in a row.
    Failed { failures: u32 },
    /// There is an answer again, after it was said that there is none.
    Back,
}

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct News {
    absent: bool,
    failures: u32,
    complained: bool,
    said_at: Option<Moment>,
}

impl News {
    /// What is to be said of this answer; `Ok(None)` is a socket that is not there.
    pub(super) fn of<T, E>(&mut self, now: Moment, answer: &Result<Option<T>, E>) -> Said {
        match answer {
            Ok(Some(_)) => {
                self.failures = 0;
                self.absent = false;
                if std::mem::take(&mut self.complained) { Said::Back } else { Said::Nothing }
            }
            Ok(None) => {
                self.failures = 0;
                self.complained = true;
                if std::mem::replace(&mut self.absent, true) { Said::Nothing } else { Said::Absent }
            }
            Err(_) => {
                self.failures = self.failures.saturating_add(1);
                self.absent = false;
                let lately = self.said_at.is_some_and(|said_at| now.since(said_at) < SAID_EVERY);
                if self.failures < WORTH_A_WARNING || lately {
                    return Said::Nothing;
                }
                self.said_at = Some(now);
                self.complained = true;
                Said::Failed { failures: self.failures }
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
    use super::*;

    const THERE: Result<Option<()>, ()> = Ok(Some(()));
    const ABSENT: Result<Option<()>, ()> = Ok(None);
    const FAILED: Result<Option<()>, ()> = Err(());

    fn all(answers: &[(u64, Result<Option<()>, ()>)]) -> Vec<Said> {
        let mut news = News::default();
        answers
            .iter()
            .map(|(at, answer)| news.of(Moment(Duration::from_secs(*at)), answer))
            .collect()
    }

    #[test]
    fn an_absent_socket_is_said_once_and_its_coming_too() {
        use Said::{Absent, Back, Nothing};
        assert_eq!(
            all(&[(0, ABSENT), (10, ABSENT), (20, THERE), (30, THERE), (40, ABSENT)]),
            [Absent, Nothing, Back, Nothing, Absent]
        );
    }

    #[test]
    fn a_failure_that_lasts_is_said_at_most_once_a_minute() {
        use Said::{Back, Failed, Nothing};
        assert_eq!(
            all(&[(0, FAILED), (10, THERE), (20, FAILED), (30, THERE)]),
            [Nothing; 4],
            "a kubelet restarts"
        );
        assert_eq!(
            all(&[
                (0, FAILED),
                (10, FAILED),
                (20, FAILED),
                (69, FAILED),
                (70, FAILED),
                (80, THERE),
                (90, THERE)
            ]),
            [
                Nothing,
                Failed { failures: 2 },
                Nothing,
                Nothing,
                Failed { failures: 5 },
                Back,
                Nothing
            ]
        );
        // Coming and going is no way around it.
        let flapping: Vec<_> =
            (0..20).map(|n| (n * 5, if n % 3 == 2 { THERE } else { FAILED })).collect();
        let said = all(&flapping).into_iter().filter(|said| matches!(said, Failed { .. })).count();
        assert_eq!(said, 2, "in 95 s");
    }
}
