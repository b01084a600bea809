//! A request as the kubelet sends it, and what is left of it when every id has been looked up.

use super::index::AllocationIndex;
use super::note::Note;

/// What is asked for: texts as they came, since even those that are no device id get an answer.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a, S> {
    /// Ids that can be given.
    pub available: &'a [S],
    /// Ids that are given already and must be in the answer.
    pub must_include: &'a [S],
    /// How many ids the answer is to have, those included.
    pub size: i32,
}

/// The ids of a request, sorted out: each once, in the catalogue's order, or alphabetically where
/// it does not know them.
pub(super) struct Resolved<'a> {
    /// Known devices that must be in the answer.
    pub(super) must: Vec<usize>,
    /// Known devices that may be.
    pub(super) free: Vec<usize>,
    /// Unknown ids that must be.
    pub(super) unknown_must: Vec<&'a str>,
    /// Unknown ids that may be.
    pub(super) unknown_free: Vec<&'a str>,
}

/// How an id came: a bit for each list.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Named {
    available: bool,
    must: bool,
}

impl<'a> Resolved<'a> {
    /// Looks up all ids, and notes what is odd about them.
    pub(super) fn of<S: AsRef<str>>(
        catalogue: &AllocationIndex,
        request: &Request<'a, S>,
        notes: &mut Vec<Note>,
    ) -> Self {
        let mut named = vec![Named::default(); catalogue.devices.len()];
        let (mut unknown_must, mut unknown_free) = (Vec::new(), Vec::new());
        let mut repeated = 0;
        for id in request.available.iter().map(AsRef::as_ref) {
            match catalogue.find(id) {
                Some(at) => {
                    repeated += usize::from(std::mem::replace(&mut named[at].available, true))
                }
                None => unknown_free.push(id),
            }
        }
        for id in request.must_include.iter().map(AsRef::as_ref) {
            match catalogue.find(id) {
                Some(at) => repeated += usize::from(std::mem::replace(&mut named[at].must, true)),
                None => unknown_must.push(id),
            }
        }
        for unknown in [&mut unknown_must, &mut unknown_free] {
            let count = unknown.len();
            unknown.sort_unstable();
            unknown.dedup();
            repeated += count - unknown.len();
        }
        if repeated > 0 {
            notes.push(Note::RepeatedIds { count: repeated });
        }

        let which = |which: fn(&Named) -> bool| -> Vec<usize> {
            named.iter().enumerate().filter(|(_, named)| which(named)).map(|(at, _)| at).collect()
        };
        let unavailable = which(|named| named.must && !named.available);
        let strangers = unknown_must.iter().filter(|id| unknown_free.binary_search(id).is_err());
        let mut missing =
            unavailable.iter().map(|at| &*catalogue.devices[*at].id).chain(strangers.copied());
        if let Some(first) = missing.next() {
            notes.push(Note::MustIncludeUnavailable {
                first: first.to_owned(),
                count: 1 + missing.count(),
            });
        }

        unknown_free.retain(|id| unknown_must.binary_search(id).is_err());
        let unknown = unknown_must.iter().chain(&unknown_free);
        if let Some(first) = unknown.clone().min() {
            notes.push(Note::UnknownIds { count: unknown.count(), first: (*first).to_owned() });
        }
        Self {
            must: which(|named| named.must),
            free: which(|named| named.available && !named.must),
            unknown_must,
            unknown_free,
        }
    }
}
