//! One call on its way: the rules that it has met, what holds it up, and its line in the journal.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::MutexGuard;
use std::time::Duration;

use super::rules::Met;
use super::standing::{Why, stand};
use super::{Driver, lock};
use crate::code::Code;
use crate::journal;
use crate::state::{Blocks, Rule};
use crate::watch::FileWatch;

/// Between two looks of a call that another one holds up.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A call, from its beginning to its answer.
pub(super) struct Call<'a> {
    pub(super) function: &'a str,
    /// What it has met of the rules of the node, a GPU or a MIG device, and the rules that there
    /// were.
    met: BTreeMap<String, (Vec<Rule>, Option<Met>)>,
    /// Those of them whose delay is over.
    delayed: Vec<String>,
    watch: Option<FileWatch>,
    /// Its number among the calls that hold others up.
    blocker: Option<u64>,
    pub(super) gpu: Option<String>,
    wants_line: bool,
}

/// Why a call does not go on yet.
pub(super) enum Pause {
    /// Until the state file changes.
    Hang(Hold),
    Delay(Duration, Hold),
    /// Until another call is through.
    Behind,
}

/// What the call holds up meanwhile.
pub(super) enum Hold {
    Nothing,
    Gpu(String),
    All,
}

impl<'a> Call<'a> {
    pub(super) fn new(function: &'a str) -> Self {
        Self {
            function,
            met: BTreeMap::new(),
            delayed: Vec::new(),
            watch: None,
            blocker: None,
            gpu: None,
            wants_line: journal::wants_calls(),
        }
    }

    /// Writes the journal's line, once.
    pub(super) fn line(&mut self) {
        if std::mem::take(&mut self.wants_line) {
            journal::call(self.function, self.gpu.as_deref());
        }
    }

    pub(super) fn drain(&mut self, driver: &mut Driver) {
        if self.watch.as_mut().is_some_and(FileWatch::drain) {
            driver.file.distrust();
        }
    }

    /// What holds the call up by these rules, if anything does.
    pub(super) fn held_up(
        &mut self,
        driver: &mut Driver,
        owner: &str,
        rules: &[Rule],
    ) -> Option<Pause> {
        if rules.is_empty() && !self.met.contains_key(owner) {
            return None;
        }
        let is_over = |(seen, met): &(Vec<Rule>, Option<Met>)| match met {
            Some(met) => met.rule.hang && !met.is_still_in(rules),
            None => seen != rules,
        };
        if self.met.get(owner).is_none_or(is_over) {
            let seen = self.met.remove(owner).map(|(seen, _)| seen).unwrap_or_default();
            let met = driver.counts.meet(owner, rules, self.function, &seen);
            met.iter().for_each(|met| write_noise(met.rule.noise));
            self.met.insert(owner.to_owned(), (rules.to_vec(), met));
        }
        let rule = &self.met.get(owner)?.1.as_ref()?.rule;
        if rule.abort {
            std::process::abort();
        }
        let hold = match rule.blocks {
            Blocks::Nothing => Hold::Nothing,
            Blocks::Gpu => Hold::Gpu(owner.to_owned()),
            Blocks::All => Hold::All,
        };
        if rule.delay_ms > 0 && !self.delayed.iter().any(|delayed| delayed == owner) {
            self.delayed.push(owner.to_owned());
            return Some(Pause::Delay(Duration::from_millis(rule.delay_ms), hold));
        }
        rule.hang.then_some(Pause::Hang(hold))
    }

    /// The return code that the rules of an owner ask for.
    pub(super) fn refusal(&self, owner: &str) -> Option<Code> {
        self.met.get(owner)?.1.as_ref()?.code()
    }

    /// The value that the rules of an owner ask for.
    pub(super) fn value(&self, owner: &str) -> Option<String> {
        self.met.get(owner)?.1.as_ref()?.value()
    }

    /// Whether another call holds this one up.
    pub(super) fn is_behind(&self, driver: &Driver, gpu: Option<&str>) -> bool {
        driver.blockers.iter().any(|(blocker, blocked)| {
            Some(*blocker) != self.blocker
                && blocked.as_deref().is_none_or(|blocked| Some(blocked) == gpu)
        })
    }

    /// Lets the driver go and stands still.
    pub(super) fn pause(&mut self, mut driver: MutexGuard<'_, Driver>, pause: Pause) {
        match pause {
            Pause::Behind => stand(driver, Why::Hanging, || std::thread::sleep(LOOK_EVERY)),
            Pause::Delay(time, hold) => {
                self.block(&mut driver, hold);
                stand(driver, Why::Hanging, || std::thread::sleep(time));
            }
            Pause::Hang(hold) => {
                self.block(&mut driver, hold);
                self.hang(driver);
            }
        }
    }

    /// The first time it only sets up the watch: the file may have changed before.
    fn hang(&mut self, driver: MutexGuard<'_, Driver>) {
        let Some(watch) = &self.watch else {
            let path = driver.file.path().to_owned();
            drop(driver);
            self.watch = Some(FileWatch::new(&path));
            return;
        };
        stand(driver, Why::Hanging, || watch.wait(None, None));
    }

    fn block(&mut self, driver: &mut Driver, hold: Hold) {
        let blocked = match hold {
            Hold::Nothing => return,
            Hold::Gpu(gpu) => Some(gpu),
            Hold::All => None,
        };
        let blocker = *self.blocker.get_or_insert(driver.blockers_made);
        driver.blockers_made = driver.blockers_made.max(blocker + 1);
        driver.blockers.insert(blocker, blocked);
    }
}

/// Writes so many bytes to both standard streams, and waits for who reads them.
fn write_noise(bytes: u32) {
    const LINE: &str = "fake NVML: noise\n";
    let lines = LINE.repeat(usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(LINE.len()));
    // Nobody has to be there to read it.
    let _ = std::io::stdout().write_all(lines.as_bytes());
    let _ = std::io::stderr().write_all(lines.as_bytes());
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(blocker) = self.blocker {
            lock().blockers.remove(&blocker);
        }
    }
}
