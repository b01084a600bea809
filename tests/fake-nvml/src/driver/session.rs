//! `nvmlInit` and `nvmlShutdown`, counted; and the calls that concern the node.

use super::call::{Call, Pause};
use super::device::Said;
use super::enumeration::present;
use super::gate::{Subject, pass};
use super::{lock, node_files};
use crate::code::{Answer, DRIVER_NOT_LOADED, LIB_RM_VERSION_MISMATCH, UNINITIALIZED};
use crate::state::State;

/// Opens the driver, or counts one more user of the open one.
pub(crate) fn init(function: &str) -> Answer {
    let mut call = Call::new(function);
    call.line();
    // What comes while it goes on, it does not see.
    let mut seen = None;
    loop {
        let mut driver = lock();
        call.drain(&mut driver);
        if driver.inits == 0 {
            driver.file.locate();
        }
        driver.refresh();
        let state = driver.file.current().ok_or(DRIVER_NOT_LOADED)?;
        let seen = seen.get_or_insert_with(|| present(&state));
        let pause = if call.is_behind(&driver, None) {
            Some(Pause::Behind)
        } else {
            call.held_up(&mut driver, "", &state.rules)
        };
        if let Some(pause) = pause {
            call.pause(driver, pause);
            continue;
        }
        // A process that had the driver open under an earlier load has to shut down first.
        if !state.driver.loaded || driver.inits > 0 && driver.unloaded {
            return Err(DRIVER_NOT_LOADED);
        }
        if state.driver.mismatch {
            return Err(LIB_RM_VERSION_MISMATCH);
        }
        if let Some(code) = call.refusal("") {
            return Err(code);
        }
        if driver.inits == 0 {
            driver.unloaded = false;
            driver.generation = state.driver.generation;
            driver.seen = state.events.iter().map(|event| event.seq).max().unwrap_or(0);
            driver.session.clone_from(seen);
            driver.files = node_files::open(&state);
        }
        driver.inits += 1;
        return Ok(());
    }
}

/// Undoes one [`init`]. It works without a driver too, else a process could never get back to a
/// loaded one.
pub(crate) fn shutdown(function: &str) -> Answer {
    let mut call = Call::new(function);
    call.line();
    loop {
        let mut driver = lock();
        call.drain(&mut driver);
        let pause = if call.is_behind(&driver, None) {
            Some(Pause::Behind)
        } else if driver.inits == 0 {
            return Err(UNINITIALIZED);
        } else {
            driver.refresh();
            let state = driver.state();
            call.held_up(&mut driver, "", &state.rules)
        };
        if let Some(pause) = pause {
            call.pause(driver, pause);
            continue;
        }
        if let Some(code) = call.refusal("") {
            return Err(code);
        }
        driver.inits -= 1;
        if driver.inits == 0 {
            driver.end_sets();
            driver.files.clear();
        }
        return Ok(());
    }
}

/// A call that concerns no GPU.
pub(crate) fn on_node(function: &str, body: impl FnOnce(&State, &Said) -> Answer) -> Answer {
    let passed = pass(function, |_, _| Ok((Subject::default(), ())))?;
    body(&passed.state, &Said(passed.value))
}

/// How many GPUs are enumerated, for a call that answers it.
pub(crate) fn on_count(function: &str, body: impl FnOnce(usize, &Said) -> Answer) -> Answer {
    let passed =
        pass(function, |driver, state| Ok((Subject::default(), driver.enumeration(state).len())))?;
    body(passed.found, &Said(passed.value))
}
