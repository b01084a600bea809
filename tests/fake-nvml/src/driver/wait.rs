//! Event sets from making to freeing, and the wait for an event: asleep until the file changes.

use std::os::fd::AsFd;
use std::ptr;
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlEventSet_t};

use super::device::{Device, on_gpu};
use super::gate::{Hang, Subject, Trace, Verdict, pass};
use super::standing::{Why, stand};
use super::{lock, on_node};
use crate::code::{Answer, Code, INVALID_ARGUMENT, NOT_SUPPORTED, TIMEOUT};
use crate::events::{Delivery, EventSet};
use crate::watch::FileWatch;

/// Event sets count up from here, apart from the handles of devices.
const FIRST_SET: usize = 0x4553_0000;
const STEP: usize = 16;

/// Makes an empty event set.
pub(crate) fn create_set(function: &str) -> Result<nvmlEventSet_t, Code> {
    let (_, set) = pass(function, |driver, _| {
        let set = FIRST_SET + driver.sets_made * STEP;
        driver.sets_made += 1;
        driver.sets.insert(set, EventSet::new());
        Ok((Subject::NODE, set))
    })?;
    Ok(ptr::without_provenance_mut(set))
}

/// Ends an event set, and the waits on it.
pub(crate) fn free_set(function: &str, set: nvmlEventSet_t) -> Answer {
    on_node(function, |_| match lock().sets.remove(&set.addr()) {
        Some(_) => Ok(()),
        None => Err(INVALID_ARGUMENT),
    })
}

/// Registers a set for events of a GPU: for all the types, or for none if one of them is not
/// supported.
pub(crate) fn register(
    function: &str,
    device: nvmlDevice_t,
    types: u64,
    set: nvmlEventSet_t,
) -> Answer {
    on_gpu(function, device, |gpu: &Device| {
        let mut driver = lock();
        let set = driver.sets.get_mut(&set.addr()).ok_or(INVALID_ARGUMENT)?;
        if types & !gpu.gpu().supported_events != 0 {
            return Err(NOT_SUPPORTED);
        }
        set.register(device.addr(), &gpu.gpu().uuid, types);
        Ok(())
    })
}

/// Waits for the next event of a set.
pub(crate) fn wait(
    function: &str,
    set: nvmlEventSet_t,
    timeout: Duration,
) -> Result<Delivery, Code> {
    let deadline = Instant::now().checked_add(timeout);
    let mut watch: Option<FileWatch> = None;
    let mut hang = Hang::default();
    let mut trace = Trace::new(function);
    loop {
        // Drained before the look at the file: what comes after the look ends the wait at once.
        let touched = watch.as_mut().is_some_and(FileWatch::drain);
        let mut driver = lock();
        if touched {
            driver.file.distrust();
        }
        hang.drain(&mut driver);
        let verdict = driver.admit(function, &mut trace, &mut |_, _| Ok((Subject::NODE, ())));
        trace.line();
        match verdict {
            Verdict::Go(..) => {}
            Verdict::No(code) => return Err(code),
            Verdict::Hang => {
                hang.wait(driver);
                continue;
            }
        }
        let path = driver.file.path().to_owned();
        let wake = driver.wake_of(set.addr());
        let events = driver.sets.get_mut(&set.addr()).ok_or(INVALID_ARGUMENT)?;
        if let Some(delivery) = events.take() {
            events.keep_watch(watch);
            return Ok(delivery);
        }
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
