//! Which GPUs NVML counts, and under which index: those that were there when `nvmlInit` began, for
//! as long as the session lasts.

use super::Driver;
use crate::state::{Gpu, State};

/// A GPU that is enumerated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Enumerated {
    /// Who it is; see [`identity`].
    pub(super) identity: String,
    /// Its place in the file, while it is present.
    pub(crate) place: Option<usize>,
    pub(crate) lost: bool,
}

/// The identities of the GPUs that are present.
pub(super) fn present(state: &State) -> Vec<String> {
    let present = state.gpus.iter().enumerate().filter(|(_, gpu)| gpu.present);
    present.map(|(place, _)| identity(state, place)).collect()
}

/// Who a GPU of the file is: its UUID, and a number if another one has the same before it.
pub(super) fn identity(state: &State, place: usize) -> String {
    let uuid = &state.gpus[place].uuid;
    match state.gpus[..place].iter().filter(|gpu| gpu.uuid == *uuid).count() {
        0 => uuid.clone(),
        before => format!("{uuid}#{before}"),
    }
}

/// The GPU is there and answers.
pub(super) fn is_usable(state: &State, identity: &str) -> bool {
    find(state, identity).is_some_and(|(_, gpu)| !gpu.lost)
}

/// A GPU that is present.
pub(super) fn find<'a>(state: &'a State, who: &str) -> Option<(usize, &'a Gpu)> {
    let mut gpus = state.gpus.iter().enumerate().filter(|(_, gpu)| gpu.present);
    gpus.find(|(place, gpu)| who.starts_with(&gpu.uuid) && identity(state, *place) == who)
}

impl Driver {
    /// The GPUs by index.
    pub(super) fn enumeration(&self, state: &State) -> Vec<Enumerated> {
        let identities =
            if state.driver.enumerates_at_once { present(state) } else { self.session.clone() };
        let enumerated = identities.into_iter().map(|identity| {
            let found = find(state, &identity);
            let lost = found.is_none_or(|(_, gpu)| gpu.lost);
            Enumerated { identity, place: found.map(|(place, _)| place), lost }
        });
        enumerated.collect()
    }
}
