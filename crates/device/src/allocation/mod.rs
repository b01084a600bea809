//! Preferred allocation: which of the free devices a container had best get, for itself and for
//! later requests.
//!
//! Never an error: that would fail the pod's admission, and any answer is better. An odd request is
//! answered as well as possible, with a [`Note`].

mod bandwidth;
mod gpu_set;
mod index;
mod indexes;
mod note;
mod policy;
mod residual_value;
mod score;
mod search;
mod shared;
#[cfg(test)]
mod tests;

pub use index::{AllocationIndex, IndexEntry};
pub(crate) use indexes::AllocationIndexes;
pub use note::Note;
pub use policy::{AllocationPolicy, SharedPolicy, WholeGpuPolicy};

use gpu_set::Mask;

/// A request for preferred devices. Ids are texts, since even malformed ones get an answer.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a, S> {
    /// Ids that are free.
    pub available: &'a [S],
    /// Ids that the container has already, and that must be in the answer.
    pub must_include: &'a [S],
    /// The number of ids that the answer should have, those included.
    pub size: i32,
}

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
    let (chosen, gpus) = shared::pick(index, must, free, wanted, policy);
    if policy == SharedPolicy::Spread && gpus > 0 {
        notes.push(Note::SpreadDoubled { gpus });
    }
    chosen
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
    let (chosen, is_exact) =
        search::best(matrix, mask(must) | mask(free), mask(must), must.len() + wanted);
    if !is_exact {
        notes.push(Note::SearchCut);
    }
    let is_chosen = |at: &usize| chosen >> index.devices[*at].gpu & 1 == 1;
    free.iter().copied().filter(is_chosen).collect()
}

/// The ids of a request, each once: known ones as positions in the order of the index, unknown ones
/// in alphabetical order.
struct Resolved<'a> {
    /// Known devices that must be in the answer.
    must: Vec<usize>,
    /// Known devices that may be in it.
    free: Vec<usize>,
    /// Unknown ids that must be in it.
    unknown_must: Vec<&'a str>,
    /// Unknown ids that may be in it.
    unknown_free: Vec<&'a str>,
}

impl<'a> Resolved<'a> {
    /// Looks up all ids, and notes what is odd about them.
    fn of<S: AsRef<str>>(
        index: &AllocationIndex,
        request: &Request<'a, S>,
        notes: &mut Vec<Note>,
    ) -> Self {
        let count = index.devices.len();
        let (mut available, mut must) = (vec![false; count], vec![false; count]);
        let mut repeated = 0;
        let mut unknown_free = look_up(index, request.available, &mut available, &mut repeated);
        let unknown_must = look_up(index, request.must_include, &mut must, &mut repeated);
        if repeated > 0 {
            notes.push(Note::RepeatedIds { count: repeated });
        }
        let unavailable = (0..count).filter(|at| must[*at] && !available[*at]);
        let unknown = unknown_must.iter().filter(|id| unknown_free.binary_search(id).is_err());
        let mut unavailable = unavailable.map(|at| &*index.devices[at].id).chain(unknown.copied());
        if let Some(first) = unavailable.next() {
            let (first, count) = (first.to_owned(), 1 + unavailable.count());
            notes.push(Note::MustIncludeUnavailable { first, count });
        }
        unknown_free.retain(|id| unknown_must.binary_search(id).is_err());
        let unknown = unknown_must.iter().chain(&unknown_free);
        if let Some(first) = unknown.clone().min() {
            notes.push(Note::UnknownIds { count: unknown.count(), first: (*first).to_owned() });
        }
        Self {
            must: (0..count).filter(|at| must[*at]).collect(),
            free: (0..count).filter(|at| available[*at] && !must[*at]).collect(),
            unknown_must,
            unknown_free,
        }
    }
}

/// Marks the known ids of a list as `listed` and counts those listed again. Returns the unknown
/// ids, sorted and each once.
fn look_up<'a, S: AsRef<str>>(
    index: &AllocationIndex,
    ids: &'a [S],
    listed: &mut [bool],
    repeated: &mut usize,
) -> Vec<&'a str> {
    let mut unknown = Vec::new();
    for id in ids.iter().map(AsRef::as_ref) {
        match index.find(id) {
            Some(at) => *repeated += usize::from(std::mem::replace(&mut listed[at], true)),
            None => unknown.push(id),
        }
    }
    let count = unknown.len();
    unknown.sort_unstable();
    unknown.dedup();
    *repeated += count - unknown.len();
    unknown
}
