//! Notices on their way to the API server: equal ones are one, and one is written a second at most.
//! Pure: the time comes in.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::notice::{Notice, NoticeKind, PodName};

/// The shortest time between two writes.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);
/// The shortest time between two writes of one Event, as its series grows.
const BETWEEN_UPDATES: Duration = Duration::from_secs(60);
/// How long equal notices belong together.
const SERIES: Duration = Duration::from_secs(360);
/// The most Events that are known at a time.
const MAX_EVENTS: usize = 256;

/// The notices.
#[derive(Debug, Default)]
pub struct EventQueue {
    /// The oldest first.
    events: VecDeque<PendingEvent>,
    next_write: Option<Instant>,
    dropped: u64,
}

/// One Event: all equal notices of a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEvent {
    /// The kind.
    pub kind: NoticeKind,
    /// What happened.
    pub note: String,
    /// The pod that it is about; `None`: the Node.
    pub pod: Option<PodName>,
    /// How often up to now.
    pub count: u64,
    /// When it was last seen.
    pub last: Instant,
    /// What is in the cluster of it: the object's name, and the count there.
    pub written: Option<(String, u64)>,
    last_write: Option<Instant>,
}

impl PendingEvent {
    fn is_same(&self, other: &Self) -> bool {
        (self.kind, &self.note, &self.pod) == (other.kind, &other.note, &other.pod)
    }

    fn is_due(&self, now: Instant) -> bool {
        match (&self.written, self.last_write) {
            (Some((_, count)), Some(at)) => *count < self.count && now >= at + BETWEEN_UPDATES,
            _ => true,
        }
    }

    /// When it is to be written; `None`: it is.
    fn due(&self, now: Instant) -> Option<Instant> {
        match (&self.written, self.last_write) {
            (Some((_, count)), _) if *count >= self.count => None,
            (Some(_), Some(at)) => Some(at + BETWEEN_UPDATES),
            _ => Some(now),
        }
    }
}

impl EventQueue {
    /// Takes a notice in.
    pub fn add(&mut self, now: Instant, notice: Notice) {
        // What is complete and old begins a new series when it comes back.
        self.events.retain(|event| event.due(now).is_some() || now < event.last + SERIES);
        let Notice { kind, note, times, pod } = notice;
        let same = |event: &&mut PendingEvent| {
            event.kind == kind && event.note == note && event.pod == pod
        };
        if let Some(event) = self.events.iter_mut().find(same) {
            event.count = event.count.saturating_add(times);
            event.last = now;
            return;
        }
        if self.events.len() == MAX_EVENTS {
            // Rather what is written already, then what came first: an API server that is away for
            // long gets the latest.
            let written = self.events.iter().position(|event| event.due(now).is_none());
            if written.is_none() {
                self.dropped += 1;
            }
            self.events.remove(written.unwrap_or(0));
        }
        let (written, last_write) = (None, None);
        let event = PendingEvent { kind, note, pod, count: times, last: now, written, last_write };
        self.events.push_back(event);
    }

    /// The Event to write now, if any: a new one before one whose series grows.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<PendingEvent> {
        if self.next_write.is_some_and(|next| now < next) {
            return None;
        }
        let due = || self.events.iter().filter(|event| event.is_due(now));
        due().find(|event| event.written.is_none()).or_else(|| due().next()).cloned()
    }

    /// When there may be one to write; `None`: not before another notice.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let first = self.events.iter().filter_map(|event| event.due(now)).min()?;
        Some(self.next_write.map_or(first, |next| first.max(next)))
    }

    /// An Event is in the cluster under this name, with the count that it had.
    pub fn written(&mut self, now: Instant, event: &PendingEvent, name: String) {
        self.attempted(now);
        if let Some(known) = self.find(event) {
            known.written = Some((name, event.count));
            known.last_write = Some(now);
        }
    }

    /// What was in the cluster is gone: the next write makes it again.
    pub fn gone(&mut self, now: Instant, event: &PendingEvent) {
        self.attempted(now);
        if let Some(known) = self.find(event) {
            known.written = None;
        }
    }

    /// An Event that the API server will never take: it is not tried again.
    pub fn refused(&mut self, now: Instant, event: &PendingEvent) {
        self.attempted(now);
        self.events.retain(|known| !known.is_same(event));
    }

    /// A write was attempted.
    pub fn attempted(&mut self, now: Instant) {
        self.next_write = Some(now + BETWEEN_WRITES);
    }

    /// How many were dropped since the last call, since nothing could be written for long.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn find(&mut self, event: &PendingEvent) -> Option<&mut PendingEvent> {
        self.events.iter_mut().find(|known| known.is_same(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xid(gpu: u64, times: u64) -> Notice {
        Notice { kind: NoticeKind::XidError, note: format!("GPU {gpu}: Xid 13"), times, pod: None }
    }

    /// Writes all that is to be written up to a moment, and returns how much that was.
    fn drain(queue: &mut EventQueue, now: &mut Instant, until: Instant) -> Vec<PendingEvent> {
        let mut written = Vec::new();
        while let Some(due) = queue.due(*now).filter(|due| *due <= until) {
            *now = due.max(*now);
            let event = queue.next(*now).expect("it is due");
            queue.written(*now, &event, format!("event-{}", written.len()));
            written.push(event);
        }
        *now = until;
        written
    }

    #[test]
    fn a_million_xids_on_16_gpus_are_one_event_a_second_at_most_and_all_are_counted() {
        let (mut queue, start) = (EventQueue::default(), Instant::now());
        let (mut now, mut writes) = (start, Vec::new());
        // An hour of them.
        for step in 0..3_600 {
            for gpu in 0..16 {
                queue.add(now, xid(gpu, 1_000_000 / 16 / 3_600 + 1));
            }
            writes.extend(drain(&mut queue, &mut now, start + Duration::from_secs(step + 1)));
        }
        let end = now + Duration::from_secs(600);
        writes.extend(drain(&mut queue, &mut now, end));
        assert!(writes.len() <= 16 * 62, "{} writes in an hour", writes.len());
        let counted: u64 = (0..16)
            .map(|gpu| {
                let of_gpu = writes.iter().filter(|event| event.note == xid(gpu, 1).note);
                of_gpu.map(|event| event.count).max().unwrap()
            })
            .sum();
        assert_eq!(counted, 16 * 3_600 * 18);
        assert_eq!(queue.due(now), None, "there is nothing to wait for");
    }

    #[test]
    fn a_new_event_goes_before_a_series_that_grows_and_is_written_at_once() {
        let (mut queue, start) = (EventQueue::default(), Instant::now());
        assert_eq!((queue.next(start), queue.due(start)), (None, None));
        queue.add(start, xid(0, 1));
        let first = queue.next(start).unwrap();
        queue.written(start, &first, "a".to_owned());
        queue.add(start, xid(0, 1));
        let later = start + BETWEEN_UPDATES;
        assert_eq!(queue.next(later - BETWEEN_WRITES), None);
        queue.add(later, xid(1, 1));
        assert_eq!(queue.next(later).unwrap().note, xid(1, 1).note);
        let second = queue.next(later).unwrap();
        queue.written(later, &second, "b".to_owned());
        assert_eq!(queue.next(later), None, "one a second");
        let grown = queue.next(later + BETWEEN_WRITES).unwrap();
        assert_eq!((grown.count, grown.written), (2, Some(("a".to_owned(), 1))));
    }

    #[test]
    fn what_comes_back_after_minutes_is_a_new_event_and_a_refused_one_is_forgotten() {
        let (mut queue, start) = (EventQueue::default(), Instant::now());
        queue.add(start, xid(0, 1));
        let first = queue.next(start).unwrap();
        queue.written(start, &first, "a".to_owned());
        let later = start + SERIES;
        queue.add(later, xid(0, 1));
        let again = queue.next(later).unwrap();
        assert_eq!((again.count, &again.written), (1, &None));
        queue.refused(later, &again);
        assert_eq!(queue.due(later), None);
    }

    #[test]
    fn there_are_never_too_many_and_the_latest_stay() {
        let (mut queue, start) = (EventQueue::default(), Instant::now());
        for gpu in 0..1_000 {
            queue.add(start, xid(gpu, 1));
        }
        assert_eq!(queue.events.len(), MAX_EVENTS);
        assert_eq!(queue.take_dropped(), 1_000 - MAX_EVENTS as u64);
        assert_eq!(queue.next(start).unwrap().note, xid(1_000 - MAX_EVENTS as u64, 1).note);
    }
}
