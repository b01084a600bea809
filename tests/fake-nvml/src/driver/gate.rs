//! The gate: whether a call may answer, hangs, or is refused, in the order in which a real driver
//! would notice.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::standing::{Why, stand};
use super::{Driver, lock};
use crate::code::{Code, DRIVER_NOT_LOADED, GPU_IS_LOST, LIB_RM_VERSION_MISMATCH, UNINITIALIZED};
use crate::journal;
use crate::state::State;
use crate::watch::FileWatch;

/// What a call is about.
pub(super) struct Subject {
    /// GpuLocation of the GPU in the file; none for a call about the node.
    pub(super) gpu: Option<usize>,
    /// GpuLocation of the MIG device among the GPU's.
    pub(super) mig: Option<usize>,
    /// The GPU does not answer.
    pub(super) lost: bool,
}

impl Subject {
    pub(super) const NODE: Self = Self { gpu: None, mig: None, lost: false };
}

/// What the gate says to a call.
pub(super) enum Verdict<T> {
    Go(Arc<State>, T),
    No(Code),
    /// Ask again when the file has changed.
    Hang,
}

/// Brings a call through the gate, however long it hangs. `locate` says what the call is about, and
/// with what it goes on.
pub(super) fn pass<T>(
    function: &str,
    mut locate: impl FnMut(&mut Driver, &State) -> Result<(Subject, T), Code>,
) -> Result<(Arc<State>, T), Code> {
    let mut hang = Hang::default();
    let mut trace = Trace::new(function);
    loop {
        let mut driver = lock();
        hang.drain(&mut driver);
        let verdict = driver.admit(function, &mut trace, &mut locate);
        trace.line();
        match verdict {
            Verdict::Go(state, found) => return Ok((state, found)),
            Verdict::No(code) => return Err(code),
            Verdict::Hang => hang.wait(driver),
        }
    }
}

/// A hanging call's wait for the file.
#[derive(Default)]
pub(super) struct Hang(Option<FileWatch>);

impl Hang {
    pub(super) fn drain(&mut self, driver: &mut Driver) {
        if self.0.as_mut().is_some_and(FileWatch::drain) {
            driver.file.distrust();
        }
    }

    /// Lets the driver go and waits. The first time it only sets up the watch: the file may have
    /// changed before.
    pub(super) fn wait(&mut self, driver: std::sync::MutexGuard<'_, Driver>) {
        let Some(watch) = &self.0 else {
            let path = driver.file.path().to_owned();
            drop(driver);
            self.0 = Some(FileWatch::new(&path));
            return;
        };
        stand(driver, Why::Hanging, || watch.wait(None, None));
    }
}

/// The journal's line of one call.
pub(super) struct Trace<'a> {
    function: &'a str,
    gpu: Option<String>,
    wanted: bool,
}

impl<'a> Trace<'a> {
    pub(super) fn new(function: &'a str) -> Self {
        Self { function, gpu: None, wanted: journal::wants_calls() }
    }

    /// Writes the line, once.
    pub(super) fn line(&mut self) {
        if std::mem::take(&mut self.wanted) {
            journal::call(self.function, self.gpu.as_deref());
        }
    }
}

impl Driver {
    pub(super) fn admit<T>(
        &mut self,
        function: &str,
        trace: &mut Trace<'_>,
        locate: &mut impl FnMut(&mut Self, &State) -> Result<(Subject, T), Code>,
    ) -> Verdict<T> {
        if self.inits == 0 {
            return Verdict::No(UNINITIALIZED);
        }
        self.refresh();
        let state = self.state();
        if hangs(&state.aborts, function) {
            std::process::abort();
        }
        if hangs(&state.hangs, function) {
            return Verdict::Hang;
        }
        if self.unloaded {
            return Verdict::No(DRIVER_NOT_LOADED);
        }
        if state.driver.mismatch {
            return Verdict::No(LIB_RM_VERSION_MISMATCH);
        }
        if let Some(code) = injected(&state.errors, function) {
            return Verdict::No(code);
        }
        let (subject, found) = match locate(self, &state) {
            Ok(found) => found,
            Err(code) => return Verdict::No(code),
        };
        let Some(gpu) = subject.gpu.and_then(|gpu| state.gpus.get(gpu)) else {
            return Verdict::Go(state, found);
        };
        if trace.wanted {
            trace.gpu = Some(gpu.uuid.clone());
        }
        if hangs(&gpu.hangs, function) {
            return Verdict::Hang;
        }
        if subject.lost {
            return Verdict::No(GPU_IS_LOST);
        }
        let mig = subject.mig.and_then(|mig| gpu.mig.as_ref()?.devices.get(mig));
        let refused = injected(&gpu.errors, function)
            .or_else(|| mig.and_then(|mig| injected(&mig.errors, function)));
        match refused {
            Some(code) => Verdict::No(code),
            None => Verdict::Go(state, found),
        }
    }
}

/// The function is among those.
pub(super) fn hangs(names: &[String], function: &str) -> bool {
    names.iter().any(|name| name == function || name == unversioned(function))
}

/// The return code that the state file asks of the function.
pub(super) fn injected(errors: &BTreeMap<String, u32>, function: &str) -> Option<Code> {
    let code = errors.get(function).or_else(|| errors.get(unversioned(function)))?;
    Some(*code).filter(|code| *code != 0)
}

/// The function's name without a `_v2` at its end.
fn unversioned(function: &str) -> &str {
    match function.rsplit_once("_v") {
        Some((name, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => function,
    }
}
