//! Event sets from making to freeing, and the wait for an event: asleep until the file changes.

use std::os::fd::AsFd;
use std::ptr;
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlEventSet_t};

use super::call::Call;
use super::device::{Device, on_gpu};
use super::enumeration::find;
use super::gate::{Subject, Verdict, pass};
use super::standing::{Why, stand};
use super::{Driver, lock, on_node};
use crate::code::{Answer, Code, GPU_IS_LOST, INVALID_ARGUMENT, NOT_SUPPORTED, TIMEOUT, UNKNOWN};
use crate::events::{Delivery, EventSet};
use crate::state::{DeafenedBy, State};
use crate::watch::FileWatch;

/// Event sets count up from here, apart from the handles of devices.
const FIRST_SET: usize = 0x4553_0000;
const STEP: usize = 16;

/// Makes an empty event set.
pub(crate) fn create_set(function: &str) -> Result<nvmlEventSet_t, Code> {
    let passed = pass(function, |driver, _| {
        let set = FIRST_SET + driver.sets_made * STEP;
        driver.sets_made += 1;
        driver.sets.insert(set, EventSet::new());
        Ok((Subject::default(), set))
    })?;
    Ok(ptr::without_provenance_mut(passed.found))
}

/// Ends an event set, and the waits on it.
pub(crate) fn free_set(function: &str, set: nvmlEventSet_t) -> Answer {
    on_node(function, |_, _| match lock().sets.remove(&set.addr()) {
        Some(_) => Ok(()),
        None => Err(INVALID_ARGUMENT),
    })
}

/// Registers a set for events of a GPU: for all the types, or for none if one of them is not
/// supported. An UNKNOWN leaves the set undefined, whatever it is of (nvml.h).
pub(crate) fn register(
    function: &str,
    device: nvmlDevice_t,
    types: u64,
    set: nvmlEventSet_t,
) -> Answer {
    let registered = on_gpu(function, device, |gpu: &Device| {
        let mut driver = lock();
        let set = driver.sets.get_mut(&set.addr()).ok_or(INVALID_ARGUMENT)?;
        if set.is_undefined {
            return Err(UNKNOWN);
        }
        if types & !gpu.gpu().supported_events != 0 {
            return Err(NOT_SUPPORTED);
        }
        set.register(device.addr(), &gpu.identity(), types);
        Ok(())
    });
    if registered == Err(UNKNOWN)
        && let Some(set) = lock().sets.get_mut(&set.addr())
    {
        set.is_undefined = true;
    }
    registered
}

/// Waits for the next event of a set.
pub(crate) fn wait(
    function: &str,
    set: nvmlEventSet_t,
    timeout: Duration,
) -> Result<Delivery, Code> {
    let deadline = Instant::now().checked_add(timeout);
    let mut watch: Option<FileWatch> = None;
    let mut call = Call::new(function);
    loop {
        // Drained before the look at the file: what comes after the look ends the wait at once.
        let touched = watch.as_mut().is_some_and(FileWatch::drain);
        let mut driver = lock();
        if touched {
            driver.file.distrust();
        }
        call.drain(&mut driver);
        let verdict =
            driver.admit(&mut call, &mut |driver, state| Ok((driver.about(state, set), ())));
        call.line();
        let state = match verdict {
            Verdict::Go(passed) => passed.state,
            Verdict::No(code) => return Err(code),
            Verdict::Wait(pause) => {
                call.pause(driver, pause);
                continue;
            }
        };
        let path = driver.file.path().to_owned();
        let wake = driver.wake_of(set.addr());
        let events = driver.sets.get_mut(&set.addr()).ok_or(INVALID_ARGUMENT)?;
        if events.is_undefined {
            return Err(UNKNOWN);
        }
        if let Some(delivery) = events.take() {
            events.keep_watch(watch);
            return Ok(delivery);
        }
        if driver.is_deaf(&state, set) {
            return Err(GPU_IS_LOST);
        }
        let events = driver.sets.get_mut(&set.addr()).ok_or(INVALID_ARGUMENT)?;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            events.keep_watch(watch);
            return Err(TIMEOUT);
        }
        let Some(watch) = &watch else {
            // Once more around: the file may have changed before the watch was there.
            let kept = events.take_watch().filter(|kept| kept.path() == path);
            drop(driver);
            watch = Some(kept.unwrap_or_else(|| FileWatch::new(&path)));
            continue;
        };
        stand(driver, Why::Waiting, || watch.wait(wake.as_deref().map(AsFd::as_fd), deadline));
    }
}

impl Driver {
    /// What a wait on the set is about: the GPUs that it is registered with.
    fn about(&self, state: &State, set: nvmlEventSet_t) -> Subject {
        let gpus = self.sets.get(&set.addr()).into_iter().flat_map(EventSet::gpus);
        let touched = gpus.filter_map(|gpu| find(state, gpu)).map(|(place, _)| place).collect();
        Subject { touched, by_touched: true, ..Subject::default() }
    }

    /// A lost GPU keeps the set from waiting.
    fn is_deaf(&self, state: &State, set: nvmlEventSet_t) -> bool {
        let lost = |gpu: &str| find(state, gpu).is_none_or(|(_, gpu)| gpu.lost);
        let mut registered = self.sets.get(&set.addr()).into_iter().flat_map(EventSet::gpus);
        match state.driver.deafened_by {
            DeafenedBy::Nothing => false,
            DeafenedBy::Registered => registered.any(lost),
            DeafenedBy::Any => self.enumeration(state).iter().any(|gpu| gpu.lost),
        }
    }
}
