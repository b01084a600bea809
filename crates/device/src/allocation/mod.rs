//! Preferred allocation: which of the free devices a container had best get, for itself and for
//! later requests.
//!
//! Never an error: that would fail the pod's admission, and any answer is better. An odd request is
//! answered as well as possible, with a [`Note`].

mod bandwidth;
mod gpu_set;
mod index;
mod indexes;
mod lookup;
mod note;
mod policy;
mod request;
mod residual_value;
mod score;
mod search;
mod shared;
#[cfg(test)]
mod tests;

pub use index::{AllocationIndex, IndexEntry};
pub(crate) use indexes::{AllocationIndexes, GpuLocation};
pub use note::Note;
pub use policy::{AllocationPolicy, SharedPolicy, WholeGpuPolicy};
pub use request::Request;

use gpu_set::Mask;
use request::Resolved;

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreferredAllocation<'a> {
    /// The ids as in the request, each once: first those that must be included, then the chosen
    /// ones in the order of the index, then unknown ones if nothing else is left.
    pub ids: Vec<&'a str>,
    /// What was odd about the request.
    pub notes: Vec<Note>,
}

/// The devices that the container of a request had best get.
#[must_use]
pub fn preferred<'a, S: AsRef<str>>(
    index: &'a AllocationIndex,
    request: &Request<'a, S>,
) -> PreferredAllocation<'a> {
    let mut notes = Vec::new();
    let resolved = Resolved::of(index, request, &mut notes);
    let size = usize::try_from(request.size).unwrap_or(0);
    if request.size <= 0 {
        notes.push(Note::SizeNotPositive(request.size));
    }
    let must = resolved.must.len() + resolved.unknown_must.len();
    if must > size && size > 0 {
        notes.push(Note::MustIncludeTooMany { count: must, size });
    }

    let wanted = size.saturating_sub(must).min(resolved.free.len());
    let chosen =
        if wanted == 0 { Vec::new() } else { choose(index, &resolved, wanted, &mut notes) };
    let text = |at: &usize| &*index.devices[*at].id;
    let ids: Vec<&str> = (resolved.must.iter().map(text))
        .chain(resolved.unknown_must)
        .chain(chosen.iter().map(text))
        .chain(resolved.unknown_free)
        .take(size)
        .collect();
    if ids.len() < size {
        notes.push(Note::TooFew { requested: size, available: ids.len() });
    }
    PreferredAllocation { ids, notes }
}

/// Chooses `wanted` of the free devices, of which there are at least that many.
fn choose(
    index: &AllocationIndex,
    resolved: &Resolved<'_>,
    wanted: usize,
    notes: &mut Vec<Note>,
) -> Vec<usize> {
    let Resolved { must, free, .. } = resolved;
    if must.iter().chain(free).all(|at| index.devices[*at].whole) {
        return choose_whole(index, must, free, wanted, notes);
    }
    let policy = index.policy.shared;
    let picked = shared::pick(index, must, free, wanted, policy);
    if policy == SharedPolicy::Spread && picked.doubled > 0 {
        notes.push(Note::SpreadDoubled { gpus: picked.doubled });
    }
    picked.devices
}

fn choose_whole(
    index: &AllocationIndex,
    must: &[usize],
    free: &[usize],
    wanted: usize,
    notes: &mut Vec<Note>,
) -> Vec<usize> {
    let Some(matrix) = &index.matrix else {
        if index.policy.whole != WholeGpuPolicy::Index {
            notes.push(Note::TooManyGpus);
        }
        return free[..wanted].to_vec();
    };
    let mask = |devices: &[usize]| {
        devices.iter().fold(0, |mask: Mask, at| mask | 1 << index.devices[*at].gpu)
    };
    let best = search::best(matrix, mask(must) | mask(free), mask(must), must.len() + wanted);
    if !best.exact {
        notes.push(Note::SearchCut);
    }
    let is_chosen = |at: &usize| best.chosen >> index.devices[*at].gpu & 1 == 1;
    free.iter().copied().filter(is_chosen).collect()
}
