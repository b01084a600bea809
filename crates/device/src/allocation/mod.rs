//! Which of the devices that are free a request gets: the right ones together, for itself and for
//! those after it.
//!
//! Pure and never an error: an error would fail the pod's admission, and any answer is better than
//! that. What is odd about a request is answered as well as it can be and said in a [`Note`].

mod bandwidth;
mod gpu_set;
mod index;
mod indexes;
mod note;
mod policy;
mod request;
mod residual_value;
mod score;
mod search;
mod shared;

pub use index::{AllocationIndex, Entry};
pub use indexes::{AllocationIndexes, GpuLocation};
pub use note::Note;
pub use policy::{Policies, PolicyError, SharedPolicy, WholeGpuPolicy};
pub use request::Request;

use gpu_set::Mask;
use request::Resolved;

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preferred<'a> {
    /// The ids, as they were given, each once: first those that must be included, then the chosen
    /// in the catalogue's order, then unknown ones if nothing else was left.
    pub ids: Vec<&'a str>,
    /// What was odd.
    pub notes: Vec<Note>,
}

/// The devices that a request had best get.
#[must_use]
pub fn preferred<'a, S: AsRef<str>>(
    catalogue: &'a AllocationIndex,
    request: &Request<'a, S>,
) -> Preferred<'a> {
    let mut notes = Vec::new();
    let resolved = Resolved::of(catalogue, request, &mut notes);
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
        if wanted == 0 { Vec::new() } else { choose(catalogue, &resolved, wanted, &mut notes) };
    let text = |at: &usize| &*catalogue.devices[*at].id;
    let ids: Vec<&str> = (resolved.must.iter().map(text))
        .chain(resolved.unknown_must)
        .chain(chosen.iter().map(text))
        .chain(resolved.unknown_free)
        .take(size)
        .collect();
    if ids.len() < size {
        notes.push(Note::TooFew { asked: size, answered: ids.len() });
    }
    Preferred { ids, notes }
}

/// Chooses `wanted` of the free devices, of which there are at least so many.
fn choose(
    catalogue: &AllocationIndex,
    resolved: &Resolved<'_>,
    wanted: usize,
    notes: &mut Vec<Note>,
) -> Vec<usize> {
    let Resolved { must, free, .. } = resolved;
    if !must.iter().chain(free).all(|at| catalogue.devices[*at].whole) {
        let policy = catalogue.policies.shared;
        let picked = shared::pick(catalogue, must, free, wanted, policy);
        if policy == SharedPolicy::Spread && picked.doubled > 0 {
            notes.push(Note::SpreadDoubled { gpus: picked.doubled });
        }
        return picked.devices;
    }
    let Some(machine) = &catalogue.machine else {
        if catalogue.policies.whole != WholeGpuPolicy::Index {
            notes.push(Note::TooManyGpus);
        }
        return free[..wanted].to_vec();
    };
    let mask = |devices: &[usize]| {
        devices.iter().fold(0, |mask: Mask, at| mask | 1 << catalogue.devices[*at].gpu)
    };
    let found = search::best(machine, mask(must) | mask(free), mask(must), must.len() + wanted);
    if !found.exact {
        notes.push(Note::SearchCut);
    }
    free.iter().copied().filter(|at| found.chosen >> catalogue.devices[*at].gpu & 1 == 1).collect()
}
