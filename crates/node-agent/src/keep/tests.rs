use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use status::Status;

use super::*;
use crate::labels::testing::status;

const MINUTE: Interval = Interval(Some(Duration::from_secs(60)));

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
    // It is known thousands of times, and made once.
    static STATUS: LazyLock<Arc<Status>> = LazyLock::new(|| Arc::new(status(&[])));
    View { status: Some(STATUS.clone()), silent }
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

/// A failure after which the server does not want to be asked for so many seconds.
fn failure(seconds: u64) -> Failure {
    Failure { why: "no".to_owned(), retry_after: Duration::from_secs(seconds) }
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
        for number in 0..600 {
            view.send_replace(known(number & 1 == 0));
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let writes = fake.0.borrow().attempts.len();
    assert!((6..=13).contains(&writes), "{writes}");
}

#[tokio::test(start_paused = true)]
async fn it_is_tried_for_good_with_growing_pauses_and_not_before_the_server_wants_it() {
    let fake = fake();
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
async fn another_wish_is_not_made_to_wait_for_the_pause_of_the_one_before() {
    let fake = fake();
    fake.0.borrow_mut().failures = vec![failure(0); 30];
    let changes = [200, 290, 385, 470];
    kept(&fake, 500, async |view| {
        view.send_replace(known(false));
        let start = Instant::now();
        for (number, second) in changes.iter().enumerate() {
            tokio::time::sleep_until(start + Duration::from_secs(*second)).await;
            view.send_replace(known(number % 2 == 0));
        }
    })
    .await;
    let World { attempts, .. } = &*fake.0.borrow();
    let firsts = attempts.windows(2).filter(|two| two[0].1 != two[1].1).map(|two| two[1].0);
    let late: Vec<u64> = firsts.zip(changes).map(|(at, changed)| at - changed).collect();
    assert!(late.len() == 4 && late.iter().all(|late| *late <= 5), "{late:?}: {attempts:?}");
}

#[tokio::test(start_paused = true)]
async fn what_flaps_asks_no_server_before_it_wants_to_be_asked() {
    let fake = fake();
    fake.0.borrow_mut().failures = vec![failure(40); 8];
    kept(&fake, 300, async |view| {
        for number in 0..3_000 {
            view.send_replace(known(number & 1 == 0));
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let World { attempts, .. } = &*fake.0.borrow();
    let pauses: Vec<u64> = attempts.windows(2).map(|two| two[1].0 - two[0].0).collect();
    assert!(pauses.len() >= 6 && pauses.iter().all(|pause| *pause >= 39), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn what_flaps_asks_a_server_that_fails_every_five_seconds_at_most() {
    let fake = fake();
    fake.0.borrow_mut().failures = vec![failure(0); 200];
    kept(&fake, 600, async |view| {
        for number in 0..6_000 {
            view.send_replace(known(number & 1 == 0));
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let attempts = fake.0.borrow().attempts.len();
    assert!((60..=130).contains(&attempts), "{attempts}");
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
