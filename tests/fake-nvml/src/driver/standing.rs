//! The calls that stand still, for a test to wait for: which of them hang, and which wait for an
//! event.

use std::collections::BTreeMap;
use std::sync::MutexGuard;

use super::{Driver, lock};

/// Why a call stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The state file has it hang.
    Hanging,
    /// It waits for an event.
    Waiting,
}

/// The calls that stand still, with the version of the file that each has looked at. They are
/// numbered and not told apart by their threads: `thread::current` would leave a destructor with a
/// thread that outlives the library.
#[derive(Default)]
pub(super) struct Standing {
    calls: BTreeMap<u64, (Why, u64)>,
    next: u64,
}

/// Lets the driver go and has the calling thread stand still in `wait`, on record.
pub(super) fn stand(mut driver: MutexGuard<'_, Driver>, why: Why, wait: impl FnOnce()) {
    let version = driver.file.version();
    let call = driver.standing.next;
    driver.standing.next += 1;
    driver.standing.calls.insert(call, (why, version));
    drop(driver);
    wait();
    lock().standing.calls.remove(&call);
}

/// How many calls stand still for this reason although they have looked at the file as it is now.
pub(crate) fn standing(why: Why) -> usize {
    let mut driver = lock();
    driver.refresh();
    let version = driver.file.version();
    driver.standing.calls.values().filter(|call| **call == (why, version)).count()
}
