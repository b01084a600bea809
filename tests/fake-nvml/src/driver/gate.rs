//! The gate: whether a call may answer, is held up, or is refused, in the order in which a real
//! driver would notice.

use std::sync::Arc;

use super::call::{Call, Pause};
use super::{Driver, lock};
use crate::code::{Code, DRIVER_NOT_LOADED, GPU_IS_LOST, LIB_RM_VERSION_MISMATCH, UNINITIALIZED};
use crate::state::{Gpu, State};

/// What a call is about.
#[derive(Default)]
pub(super) struct Subject {
    /// Place of the GPU in the file; none for a call about the node, or if it is gone.
    pub(super) gpu: Option<usize>,
    /// Place of the MIG device among the GPU's.
    pub(super) mig: Option<usize>,
    /// The GPU does not answer, or one of those that are searched.
    pub(super) lost: bool,
    /// Places of the GPUs that the call touches before the one that it is about.
    pub(super) touched: Vec<usize>,
    /// What their rules answer is the answer of the call.
    pub(super) by_touched: bool,
}

/// What the gate says to a call.
pub(super) enum Verdict<T> {
    Go(Passed<T>),
    No(Code),
    Wait(Pause),
}

/// A call that may answer.
pub(super) struct Passed<T> {
    pub(super) state: Arc<State>,
    pub(super) found: T,
    /// What a rule has it answer.
    pub(super) value: Option<String>,
}

/// Brings a call through the gate, however long it is held up. `locate` says what the call is
/// about, and with what it goes on.
pub(super) fn pass<T>(
    function: &str,
    mut locate: impl FnMut(&mut Driver, &State) -> Result<(Subject, T), Code>,
) -> Result<Passed<T>, Code> {
    let mut call = Call::new(function);
    loop {
        let mut driver = lock();
        call.drain(&mut driver);
        let verdict = driver.admit(&mut call, &mut locate);
        call.line();
        match verdict {
            Verdict::Go(passed) => return Ok(passed),
            Verdict::No(code) => return Err(code),
            Verdict::Wait(pause) => call.pause(driver, pause),
        }
    }
}

impl Driver {
    pub(super) fn admit<T>(
        &mut self,
        call: &mut Call<'_>,
        locate: &mut impl FnMut(&mut Self, &State) -> Result<(Subject, T), Code>,
    ) -> Verdict<T> {
        match self.try_admit(call, locate) {
            Ok(passed) => Verdict::Go(passed),
            Err(Refusal::Code(code)) => Verdict::No(code),
            Err(Refusal::Pause(pause)) => Verdict::Wait(pause),
        }
    }

    fn try_admit<T>(
        &mut self,
        call: &mut Call<'_>,
        locate: &mut impl FnMut(&mut Self, &State) -> Result<(Subject, T), Code>,
    ) -> Result<Passed<T>, Refusal> {
        if call.is_behind(self, None) {
            return Err(Pause::Behind.into());
        }
        if self.inits == 0 {
            return Err(UNINITIALIZED.into());
        }
        self.refresh();
        let state = self.state();
        proceed(call.held_up(self, "", &state.rules))?;
        if self.unloaded {
            return Err(DRIVER_NOT_LOADED.into());
        }
        if state.driver.mismatch {
            return Err(LIB_RM_VERSION_MISMATCH.into());
        }
        permit(call.refusal(""))?;
        let (subject, found) = locate(self, &state)?;
        let value = self.admit_to(call, &state, &subject)?.or_else(|| call.value(""));
        Ok(Passed { state, found, value })
    }

    /// What the GPUs say that the call is about; and the value that one of their rules asks for.
    fn admit_to(
        &mut self,
        call: &mut Call<'_>,
        state: &State,
        subject: &Subject,
    ) -> Result<Option<String>, Refusal> {
        let mut lost = subject.lost;
        for gpu in subject.touched.iter().filter_map(|place| state.gpus.get(*place)) {
            self.wait_for(call, gpu)?;
            let refusal = call.refusal(&gpu.uuid);
            permit(refusal.filter(|_| subject.by_touched))?;
            lost |= refusal == Some(GPU_IS_LOST);
        }
        let Some(gpu) = subject.gpu.and_then(|place| state.gpus.get(place)) else {
            return if lost { Err(GPU_IS_LOST.into()) } else { Ok(None) };
        };
        call.gpu = Some(gpu.uuid.clone());
        self.wait_for(call, gpu)?;
        if lost {
            return Err(GPU_IS_LOST.into());
        }
        permit(call.refusal(&gpu.uuid))?;
        let Some(mig) = subject.mig.and_then(|place| gpu.mig.as_ref()?.devices.get(place)) else {
            return Ok(call.value(&gpu.uuid));
        };
        proceed(call.held_up(self, &mig.uuid, &mig.rules))?;
        permit(call.refusal(&mig.uuid))?;
        Ok(call.value(&mig.uuid).or_else(|| call.value(&gpu.uuid)))
    }

    pub(super) fn wait_for(&mut self, call: &mut Call<'_>, gpu: &Gpu) -> Result<(), Refusal> {
        if call.is_behind(self, Some(&gpu.uuid)) {
            return Err(Pause::Behind.into());
        }
        proceed(call.held_up(self, &gpu.uuid, &gpu.rules))
    }
}

/// Why a call does not go on.
pub(super) enum Refusal {
    Code(Code),
    Pause(Pause),
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self::Code(code)
    }
}

impl From<Pause> for Refusal {
    fn from(pause: Pause) -> Self {
        Self::Pause(pause)
    }
}

fn proceed(pause: Option<Pause>) -> Result<(), Refusal> {
    pause.map_or(Ok(()), |pause| Err(pause.into()))
}

fn permit(refusal: Option<Code>) -> Result<(), Refusal> {
    refusal.map_or(Ok(()), |code| Err(code.into()))
}
