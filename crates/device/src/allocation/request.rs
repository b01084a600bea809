//! A request as the kubelet sends it, and with every id looked up.

use super::index::AllocationIndex;
use super::note::Note;

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

/// The ids of a request, each once: known ones as positions in the order of the index, unknown ones
/// in alphabetical order.
pub(super) struct Resolved<'a> {
    /// Known devices that must be in the answer.
    pub(super) must: Vec<usize>,
    /// Known devices that may be in it.
    pub(super) free: Vec<usize>,
    /// Unknown ids that must be in it.
    pub(super) unknown_must: Vec<&'a str>,
    /// Unknown ids that may be in it.
    pub(super) unknown_free: Vec<&'a str>,
}

/// The lists that name an id.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct ListedIn {
    available: bool,
    must: bool,
}

impl<'a> Resolved<'a> {
    /// Looks up all ids, and notes what is odd about them.
    pub(super) fn of<S: AsRef<str>>(
        index: &AllocationIndex,
        request: &Request<'a, S>,
        notes: &mut Vec<Note>,
    ) -> Self {
        let mut listed = vec![ListedIn::default(); index.devices.len()];
        let mut repeated = 0;
        let mut unknown_free = look_up(index, request.available, &mut repeated, |at| {
            std::mem::replace(&mut listed[at].available, true)
        });
        let unknown_must = look_up(index, request.must_include, &mut repeated, |at| {
            std::mem::replace(&mut listed[at].must, true)
        });
        if repeated > 0 {
            notes.push(Note::RepeatedIds { count: repeated });
        }
        notes.extend(unavailable(index, &listed, &unknown_must, &unknown_free));
        unknown_free.retain(|id| unknown_must.binary_search(id).is_err());
        let unknown = unknown_must.iter().chain(&unknown_free);
        if let Some(first) = unknown.clone().min() {
            notes.push(Note::UnknownIds { count: unknown.count(), first: (*first).to_owned() });
        }
        Self {
            must: positions(&listed, |listed| listed.must),
            free: positions(&listed, |listed| listed.available && !listed.must),
            unknown_must,
            unknown_free,
        }
    }
}

/// Marks the known ids of a list; `mark` returns whether the device was marked before. Returns the
/// unknown ids, sorted and each once.
fn look_up<'a, S: AsRef<str>>(
    index: &AllocationIndex,
    ids: &'a [S],
    repeated: &mut usize,
    mut mark: impl FnMut(usize) -> bool,
) -> Vec<&'a str> {
    let mut unknown = Vec::new();
    for id in ids.iter().map(AsRef::as_ref) {
        match index.find(id) {
            Some(at) => *repeated += usize::from(mark(at)),
            None => unknown.push(id),
        }
    }
    let count = unknown.len();
    unknown.sort_unstable();
    unknown.dedup();
    *repeated += count - unknown.len();
    unknown
}

/// The ids that must be included and are not available.
fn unavailable(
    index: &AllocationIndex,
    listed: &[ListedIn],
    unknown_must: &[&str],
    unknown_free: &[&str],
) -> Option<Note> {
    let known = positions(listed, |listed| listed.must && !listed.available);
    let unknown = unknown_must.iter().filter(|id| unknown_free.binary_search(id).is_err());
    let mut ids = known.iter().map(|at| &*index.devices[*at].id).chain(unknown.copied());
    let first = ids.next()?.to_owned();
    Some(Note::MustIncludeUnavailable { first, count: 1 + ids.count() })
}

fn positions(listed: &[ListedIn], which: impl Fn(&ListedIn) -> bool) -> Vec<usize> {
    (0..listed.len()).filter(|at| which(&listed[*at])).collect()
}
