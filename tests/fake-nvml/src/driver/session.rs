//! `nvmlInit` and `nvmlShutdown`, counted; and the calls that concern the node.

use super::gate::{Hang, Subject, Trace, hangs, injected, pass};
use super::lock;
use crate::code::{Answer, DRIVER_NOT_LOADED, LIB_RM_VERSION_MISMATCH, UNINITIALIZED};
use crate::state::State;

/// Opens the driver, or counts one more user of the open one.
pub(crate) fn init(function: &str) -> Answer {
    let mut hang = Hang::default();
    Trace::new(function).line();
    loop {
        let mut driver = lock();
        hang.drain(&mut driver);
        if driver.inits == 0 {
            driver.file.locate();
        }
        driver.refresh();
        let state = driver.file.current().ok_or(DRIVER_NOT_LOADED)?;
        if hangs(&state.aborts, function) {
            std::process::abort();
        }
        if hangs(&state.hangs, function) {
            hang.wait(driver);
            continue;
        }
        // A process that had the driver open under an earlier load has to shut down first.
        if !state.driver.loaded || driver.inits > 0 && driver.unloaded {
            return Err(DRIVER_NOT_LOADED);
        }
        if state.driver.mismatch {
            return Err(LIB_RM_VERSION_MISMATCH);
        }
        if let Some(code) = injected(&state.errors, function) {
            return Err(code);
        }
        if driver.inits == 0 {
            driver.unloaded = false;
            driver.generation = state.driver.generation;
            driver.seen = state.events.iter().map(|event| event.seq).max().unwrap_or(0);
        }
        driver.inits += 1;
        return Ok(());
    }
}

/// Undoes one [`init`]. It works without a driver too, else a process could never get back to a
/// loaded one.
pub(crate) fn shutdown(function: &str) -> Answer {
    let mut hang = Hang::default();
    Trace::new(function).line();
    loop {
        let mut driver = lock();
        hang.drain(&mut driver);
        if driver.inits == 0 {
            return Err(UNINITIALIZED);
        }
        driver.refresh();
        let state = driver.state();
        if hangs(&state.hangs, function) {
            hang.wait(driver);
            continue;
        }
        if let Some(code) = injected(&state.errors, function) {
            return Err(code);
        }
        driver.inits -= 1;
        if driver.inits == 0 {
            driver.end_sets();
        }
        return Ok(());
    }
}

/// A call that concerns no GPU.
pub(crate) fn on_node(function: &str, body: impl FnOnce(&State) -> Answer) -> Answer {
    let (state, ()) = pass(function, |_, _| Ok((Subject::NODE, ())))?;
    body(&state)
}
