//! Keeps one thing as what is seen says it should be, mostly something in the cluster by the
//! plugin's status: writes it when it is to change, looks now and then whether it is still there,
//! and retries for good.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use status_stream::View;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::api::ApiError;
use crate::args::Interval;

/// The pause after a failure, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Something that is kept.
#[allow(async_fn_in_trait, reason = "all of it runs on one task")]
pub trait Target {
    /// What it should be.
    type Wanted: Clone + PartialEq;
    /// What it is, for log lines.
    const WHAT: &'static str;
    /// The shortest time between two writes of it, so that what flaps writes seldom.
    const BETWEEN_WRITES: Duration = Duration::from_secs(5);

    /// Whether it is as wanted.
    ///
    /// # Errors
    /// It cannot be found out.
    async fn is_there(&mut self, wanted: &Self::Wanted) -> Result<bool, Failure>;

    /// Writes it.
    ///
    /// # Errors
    /// It cannot be written.
    async fn write(&mut self, wanted: &Self::Wanted) -> Result<(), Failure>;
}

/// Why something could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Failure {
    /// The reason.
    pub why: String,
    /// The shortest pause before the next attempt.
    pub retry_after: Duration,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let retry_after = error.retry_after().unwrap_or_default();
        Self { why: error.to_string(), retry_after }
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, retry_after: Duration::ZERO }
    }
}

/// Keeps a thing as `wanted` says, for good. While that says nothing it is left as it is.
pub async fn keep<V: Clone, T: Target>(
    mut target: T,
    mut view: watch::Receiver<V>,
    wanted: impl Fn(&V) -> Option<T::Wanted>,
    interval: Interval,
) {
    let mut retry = Retry::new(T::WHAT);
    let mut written = None;
    loop {
        let want = next(&mut view, &wanted, written.as_ref(), None).await;
        let Some(want) = want else { continue };
        let mut last_write = Instant::now();
        let mut result = target.write(&want).await;
        // It is looked after until it is to be another one.
        while result.is_ok() {
            retry.succeeded();
            written = Some(want.clone());
            let due = interval.0.map(|interval| Instant::now() + interval);
            if next(&mut view, &wanted, written.as_ref(), due).await.is_some() {
                break;
            }
            result = match target.is_there(&want).await {
                Ok(false) => {
                    info!("{} are not as they were written, and are written again", T::WHAT);
                    last_write = Instant::now();
                    target.write(&want).await
                }
                looked => looked.map(drop),
            };
        }
        match result {
            Ok(()) => sleep_until(last_write + T::BETWEEN_WRITES).await,
            Err(failure) => {
                written = None;
                sleep(retry.failed(&failure)).await;
            }
        }
    }
}

/// Writes a thing once, as soon as it is known what it should be, however often that takes.
pub async fn write_once<T: Target>(
    mut target: T,
    mut view: watch::Receiver<View>,
    wanted: impl Fn(&View) -> Option<T::Wanted>,
) {
    let mut retry = Retry::new(T::WHAT);
    loop {
        let Some(want) = next(&mut view, &wanted, None, None).await else { continue };
        match target.write(&want).await {
            Ok(()) => return,
            Err(failure) => sleep(retry.failed(&failure)).await,
        }
    }
}

/// What is wanted, once it is something else than what is written; `None`: it is `due` before.
async fn next<V: Clone, W: PartialEq>(
    view: &mut watch::Receiver<V>,
    wanted: &impl Fn(&V) -> Option<W>,
    written: Option<&W>,
    due: Option<Instant>,
) -> Option<W> {
    loop {
        let seen = view.borrow_and_update().clone();
        let want = wanted(&seen).filter(|want| Some(want) != written);
        if want.is_some() {
            return want;
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() {
                // Nobody publishes any more: the process is ending.
                std::future::pending::<()>().await;
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => return None,
        }
    }
}

/// The pauses between attempts, and their log lines: each reason once, not each attempt.
#[derive(Debug)]
pub struct Retry {
    what: &'static str,
    done: &'static str,
    pause: Duration,
    told: Option<String>,
}

impl Retry {
    /// For attempts at writing this.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        Self { what, done: "written", pause: FIRST_PAUSE, told: None }
    }

    /// For attempts at reading this.
    #[must_use]
    pub fn of_reading(what: &'static str) -> Self {
        Self { done: "read", ..Self::new(what) }
    }

    /// An attempt has failed. Returns the pause before the next: it doubles, is at least what the
    /// API server asks for, and is scaled at random, so that the agents of a cluster do not all
    /// come back at once.
    pub fn failed(&mut self, failure: &Failure) -> Duration {
        if self.told.as_deref() == Some(&failure.why) {
            debug!(error = %failure, "{} are not {}, will retry", self.what, self.done);
        } else {
            let (what, done) = (self.what, self.done);
            warn!(error = %failure, "{what} are not {done}, will retry for good");
            self.told = Some(failure.why.clone());
        }
        let pause = self.pause.mul_f64(0.5 + random() / 2.0);
        self.pause = (2 * self.pause).min(LAST_PAUSE);
        // Beyond what is asked for, never below.
        failure.retry_after.max(pause) + failure.retry_after.mul_f64(random() / 10.0)
    }

    /// An attempt has succeeded.
    pub fn succeeded(&mut self) {
        if self.told.take().is_some() {
            info!("{} are {}", self.what, self.done);
        }
        self.pause = FIRST_PAUSE;
    }
}

/// A random number from 0 to 1.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 32;
    f64::from(u32::try_from(bits).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::Arc;

    use super::*;

    const MINUTE: Interval = Interval(Some(LAST_PAUSE));

    /// What is written, with the second of each attempt.
    #[derive(Default)]
    struct World {
        attempts: Vec<(u64, bool)>,
        failures: Vec<Failure>,
        there: Option<bool>,
        looks: u32,
    }

    #[derive(Clone)]
    struct Fake(Rc<RefCell<World>>, Instant);

    impl Target for Fake {
        type Wanted = bool;
        const WHAT: &'static str = "the tests";

        async fn is_there(&mut self, wanted: &bool) -> Result<bool, Failure> {
            self.0.borrow_mut().looks += 1;
            Ok(self.0.borrow().there == Some(*wanted))
        }

        async fn write(&mut self, wanted: &bool) -> Result<(), Failure> {
            let mut world = self.0.borrow_mut();
            world.attempts.push((self.1.elapsed().as_secs(), *wanted));
            match world.failures.pop() {
                Some(failure) => Err(failure),
                None => {
                    world.there = Some(*wanted);
                    Ok(())
                }
            }
        }
    }

    fn wanted(view: &View) -> Option<bool> {
        view.status.is_some().then_some(view.silent)
    }

    fn known(silent: bool) -> View {
        let status = crate::labels::testing::status(&[]);
        View { status: Some(Arc::new(status)), silent }
    }

    /// Keeps a fake for a time of the runtime's clock, during which `events` happen.
    async fn kept(fake: &Fake, seconds: u64, events: impl AsyncFnOnce(watch::Sender<View>)) {
        let (sender, view) = watch::channel(View::default());
        let keeping = keep(fake.clone(), view, wanted, MINUTE);
        let events = async {
            events(sender.clone()).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = keeping => {}
            () = events => {}
            () = sleep(Duration::from_secs(seconds)) => {}
        }
    }

    fn fake() -> Fake {
        Fake(Rc::default(), Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_written_on_a_change_and_when_it_is_gone_and_looked_at_once_a_minute() {
        let fake = fake();
        let world = fake.0.clone();
        kept(&fake, 600, async |view| {
            sleep(Duration::from_secs(10)).await;
            view.send_replace(known(false));
            sleep(Duration::from_secs(100)).await;
            // The same again is no change, and nothing known is none either.
            view.send_replace(known(false));
            view.send_replace(View::default());
            sleep(Duration::from_secs(100)).await;
            world.borrow_mut().there = None;
            sleep(Duration::from_secs(100)).await;
            view.send_replace(known(true));
        })
        .await;
        let World { attempts, looks, .. } = &*fake.0.borrow();
        assert_eq!(attempts[..], [(10, false), (250, false), (310, true)]);
        assert!((7..=10).contains(looks), "{looks}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_flaps_is_written_every_five_seconds_at_most() {
        let fake = fake();
        kept(&fake, 61, async |view| {
            for number in 0..6_000 {
                view.send_replace(known(number & 1 == 0));
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let writes = fake.0.borrow().attempts.len();
        assert!((6..=13).contains(&writes), "{writes}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_tried_for_good_with_growing_pauses_and_not_before_the_server_wants_it() {
        let fake = fake();
        let failure =
            |seconds| Failure { why: "no".to_owned(), retry_after: Duration::from_secs(seconds) };
        let mut failures = vec![failure(0); 20];
        failures.push(failure(300));
        fake.0.borrow_mut().failures = failures;
        kept(&fake, 3600, async |view| drop(view.send_replace(known(false)))).await;
        let World { attempts, .. } = &*fake.0.borrow();
        assert_eq!(attempts.len(), 22, "{attempts:?}");
        let pauses: Vec<u64> = attempts.windows(2).map(|two| two[1].0 - two[0].0).collect();
        assert!((300..=331).contains(&pauses[0]), "{pauses:?}");
        assert!(pauses[1..5].iter().all(|pause| *pause <= 17), "{pauses:?}");
        assert!(pauses[8..].iter().all(|pause| (29..=61).contains(pause)), "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_random_changes_and_faults_end_as_the_status_says() {
        let fake = fake();
        let world = fake.0.clone();
        let last = Rc::new(RefCell::new(false));
        let seen = last.clone();
        kept(&fake, 100_000, async |view| {
            let mut random = 0x9e37_79b9_7f4a_7c15_u64;
            for _ in 0..10_000 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let choice = random >> 8;
                match random % 5 {
                    0 => drop(view.send_replace(known(choice.is_multiple_of(2)))),
                    1 => drop(view.send_replace(View::default())),
                    2 => {
                        let retry_after = Duration::from_secs(choice % 7);
                        let why = format!("fault {}", choice % 3);
                        world.borrow_mut().failures.push(Failure { why, retry_after });
                    }
                    3 => world.borrow_mut().there = None,
                    _ => sleep(Duration::from_millis(choice % 40_000)).await,
                }
            }
            *last.borrow_mut() = true;
            world.borrow_mut().failures.clear();
            view.send_replace(known(true));
        })
        .await;
        assert!(*seen.borrow(), "the time was too short");
        let World { attempts, there, .. } = &*fake.0.borrow();
        assert_eq!(*there, Some(true));
        let closest = attempts.windows(60).map(|some| some[59].0 - some[0].0).min().unwrap();
        assert!(closest >= 60, "60 attempts within {closest} s");
    }
}
