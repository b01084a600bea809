//! What NVML lists, by index, in one session.

use std::collections::{BTreeMap, BTreeSet};

use device::health::{Moment, NvmlError as CallError, ReturnCode};
use device::inventory::EnumerationEntry;
use device::names::Uuid;
use tracing::warn;

use crate::nvml::job::Task;

/// `NVML_ERROR_TIMEOUT`, for a call that does not return.
const TIMEOUT: ReturnCode = ReturnCode(10);
/// The most GPUs that are asked about, whatever number NVML states.
const MOST_GPUS: u32 = 1024;
/// The most GPUs of one enumeration that have a line of the log each: more than a node has, where
/// their number is true.
const MOST_LINES: usize = 16;

/// The last enumeration, and one that is being made.
#[derive(Debug, Default)]
pub(super) struct Enumeration {
    /// How many GPUs NVML counted.
    count: u32,
    entries: BTreeMap<u32, EnumerationEntry>,
    scan: Option<Scan>,
    /// Whether the next scan is to be reported even if it finds nothing else.
    is_new: bool,
}

/// An enumeration that is being made.
#[derive(Debug)]
struct Scan {
    began: Moment,
    count: u32,
    found: BTreeMap<u32, EnumerationEntry>,
    waiting: BTreeSet<u32>,
}

impl Enumeration {
    /// Of a new session, in which an index may be that of another GPU.
    pub(super) fn of_session() -> Self {
        Self { is_new: true, ..Self::default() }
    }

    /// Begins to enumerate this many GPUs; what to ask.
    pub(super) fn begin(&mut self, now: Moment, count: u32) -> Vec<Task> {
        let mut known = if count == self.count { self.gpus() } else { BTreeMap::new() };
        let waiting: BTreeSet<u32> = (0..count.min(MOST_GPUS)).collect();
        let ask = |index: &u32| match known.remove(index) {
            Some(gpu) => Task::Describe { index: *index, gpu },
            None => Task::Identify { index: *index },
        };
        let tasks = waiting.iter().map(ask).collect();
        self.scan = Some(Scan { began: now, count, found: BTreeMap::new(), waiting });
        tasks
    }

    /// What was found at an index, during a scan or after it.
    pub(super) fn described(&mut self, entry: EnumerationEntry) {
        let index = entry.index();
        match &mut self.scan {
            Some(scan) => {
                scan.waiting.remove(&index);
                scan.found.insert(index, entry);
            }
            // A late answer: the next scan finds the same, and has to be reported.
            None => self.is_new |= self.entries.insert(index, entry.clone()) != Some(entry),
        }
    }

    /// Nothing more is to be expected of an index: what was there before stays there.
    pub(super) fn give_up(&mut self, index: u32) {
        if let Some(scan) = &mut self.scan {
            scan.waiting.remove(&index);
        }
    }

    /// A call about the GPU at an index does not return. It is listed all the same.
    pub(super) fn hangs(&mut self, index: u32, gpu: &Uuid, call: &'static str) {
        let known = self.entries.contains_key(&index);
        if let Some(scan) = &mut self.scan
            && scan.waiting.remove(&index)
            && !(known && scan.count == self.count)
        {
            let error = CallError { call, code: TIMEOUT };
            let failed = EnumerationEntry::Failed { index, uuid: Some(gpu.clone()), error };
            scan.found.insert(index, failed);
        }
    }

    /// The indices that have not answered the scan.
    pub(super) fn waiting(&self) -> Vec<u32> {
        self.scan.iter().flat_map(|scan| scan.waiting.iter().copied()).collect()
    }

    pub(super) fn is_scanning(&self) -> bool {
        self.scan.is_some()
    }

    /// Takes over a scan that has all its answers. Returns when it began, and whether anything
    /// differs.
    pub(super) fn finish(&mut self) -> Option<(Moment, bool)> {
        let scan = self.scan.take_if(|scan| scan.waiting.is_empty())?;
        let (began, count) = (scan.began, scan.count);
        let mut entries = if count == self.count { self.entries.clone() } else { BTreeMap::new() };
        entries.extend(scan.found);
        let new = entries.iter().filter(|(index, entry)| self.entries.get(index) != Some(entry));
        log_failed(new.map(|(_, entry)| entry));
        let is_new = std::mem::take(&mut self.is_new);
        let differs = is_new || (count, &entries) != (self.count, &self.entries);
        (self.count, self.entries) = (count, entries);
        Some((began, differs))
    }

    /// How many GPUs NVML counts.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The entries, by index.
    pub(super) fn entries(&self) -> Vec<EnumerationEntry> {
        self.entries.values().cloned().collect()
    }

    /// The GPUs by index, as far as their UUIDs are known.
    pub(super) fn gpus(&self) -> BTreeMap<u32, Uuid> {
        let uuid = |entry: &EnumerationEntry| entry.uuid().cloned();
        self.entries.iter().filter_map(|(index, entry)| Some((*index, uuid(entry)?))).collect()
    }

    /// The GPUs for which NVML gave a handle.
    pub(super) fn identified(&self) -> impl Iterator<Item = &device::gpu::Gpu> {
        self.entries.values().filter_map(|entry| match entry {
            EnumerationEntry::Gpu(gpu) => Some(gpu),
            _ => None,
        })
    }

    /// The error of a GPU whose handle is refused.
    pub(super) fn failure(&self, gpu: &Uuid) -> Option<&CallError> {
        self.entries.values().find_map(|entry| match entry {
            EnumerationEntry::Failed { uuid: Some(uuid), error, .. } if uuid == gpu => Some(error),
            _ => None,
        })
    }
}

/// Logs the GPUs that answer with an error and did not before.
fn log_failed<'e>(entries: impl Iterator<Item = &'e EnumerationEntry>) {
    let mut count = 0_usize;
    for entry in entries {
        let EnumerationEntry::Failed { index, uuid, error } = entry else { continue };
        count += 1;
        if count > MOST_LINES {
            continue;
        }
        let served = match uuid {
            Some(_) => "it is served Unhealthy",
            None => "without a UUID it cannot be served",
        };
        let uuid = uuid.as_ref().map_or("unknown", Uuid::as_str);
        warn!(gpu.index = index, gpu.uuid = uuid, %error,
            "a GPU answers with an error; {served}, the others are not affected");
    }
    if count > MOST_LINES {
        let gpus = count - MOST_LINES;
        warn!(gpus, "more GPUs answer with an error");
    }
}
