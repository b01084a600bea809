//! Events in words.

use std::time::Duration;

use super::names::gpus_in_words;
use super::schema::{Event, EventKind};
use super::time::Timestamp;

impl Event {
    /// What happened, in the words of the log: the end of a cause reads unlike its beginning.
    #[must_use]
    pub fn sentence(&self) -> String {
        self.words("is")
    }

    /// With the verb of its subject, "is" or "are".
    fn words(&self, is: &str) -> String {
        let message = &self.message;
        match self.kind {
            EventKind::GpuFound => format!("found: {message}"),
            EventKind::GpuUnhealthy => format!("{is} Unhealthy: {message}"),
            EventKind::CauseOver => format!("cause is over: {message}"),
            EventKind::GpuHealthy => format!("{is} Healthy again"),
            EventKind::GpuDegraded => format!("{is} degraded: {message}"),
            EventKind::GpuRestored => format!("{is} no longer degraded: {message}"),
            EventKind::FindingOver => format!("finding is over: {message}"),
            EventKind::Xid
            | EventKind::Finding
            | EventKind::Registered
            | EventKind::ServerRestarted
            | EventKind::ConfigurationApplied
            | EventKind::ConfigurationRefused
            | EventKind::Other => message.clone(),
        }
    }
}

/// What happened within it is shown as one point in time.
const SHOWN_SPAN: Duration = Duration::from_secs(1);

/// An event, or several that differ in their GPU alone and happened one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLine {
    /// When the last of them happened.
    pub at: Timestamp,
    /// When the first of them happened, if that was earlier by a second or more.
    pub first_at: Option<Timestamp>,
    /// Their kind.
    pub kind: EventKind,
    /// The GPUs, as "GPU 3" or "GPUs 0 to 7".
    pub gpus: Option<String>,
    /// The index of the first GPU.
    pub gpu_index: Option<u32>,
    /// The resource.
    pub resource: Option<String>,
    /// What happened.
    pub sentence: String,
    /// How many equal ones it stands for, of one GPU.
    pub times: u64,
}

/// The events as lines, newest first: what happened to many GPUs in a row is one line.
pub fn condensed(events: &[Event]) -> impl Iterator<Item = EventLine> {
    let alike = |a: &Event, b: &Event| {
        let same = |event: &Event| (event.kind, event.times, event.resource.clone());
        a.gpu.is_some() && b.gpu.is_some() && same(a) == same(b) && a.message == b.message
    };
    events.chunk_by(alike).filter_map(|events| {
        let last = events.first()?;
        let mut gpus: Vec<_> =
            events.iter().filter_map(|event| Some((event.gpu_index, event.gpu.clone()?))).collect();
        gpus.sort();
        gpus.dedup();
        let first = events.iter().map(|event| event.first_at.unwrap_or(event.at)).min()?;
        Some(EventLine {
            at: last.at,
            first_at: (last.at.since(first) >= SHOWN_SPAN).then_some(first),
            kind: last.kind,
            gpu_index: gpus.first().and_then(|(index, _)| *index),
            resource: last.resource.clone(),
            sentence: last.words(if gpus.len() > 1 { "are" } else { "is" }),
            gpus: (!gpus.is_empty()).then(|| gpus_in_words(&gpus)),
            times: last.times,
        })
    })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn event(kind: EventKind, gpu: u32, message: &str) -> Event {
        Event {
            at: Timestamp::of(SystemTime::UNIX_EPOCH),
            first_at: None,
            kind,
            gpu: Some(format!("GPU-{gpu}")),
            gpu_index: Some(gpu),
            xid: None,
            resource: None,
            message: message.to_owned(),
            times: 1,
        }
    }

    #[test]
    fn what_happens_to_many_gpus_in_a_row_is_one_line() {
        let found = |gpu| event(EventKind::GpuFound, gpu, "H100");
        let mut events: Vec<_> = (0..8).rev().map(found).collect();
        events.insert(0, event(EventKind::Xid, 3, "Xid 79"));
        let lines: Vec<_> = condensed(&events).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].gpus.as_deref(), Some("GPU 3"));
        assert_eq!(
            (lines[1].gpus.as_deref(), &*lines[1].sentence),
            (Some("GPUs 0 to 7"), "found: H100")
        );
        let down = |gpu| event(EventKind::GpuUnhealthy, gpu, "no driver");
        let lines: Vec<_> = condensed(&[down(1), down(0)]).collect();
        assert_eq!(lines[0].sentence, "are Unhealthy: no driver");
    }

    #[test]
    fn a_line_for_several_events_has_the_first_and_the_last_time() {
        let at = |seconds| Timestamp::of(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let of = |gpu, seconds, first: Option<u64>| Event {
            at: at(seconds),
            first_at: first.map(at),
            ..event(EventKind::Xid, gpu, "Xid 13")
        };
        for (events, expected) in [
            (vec![of(0, 90, None)], None),
            (vec![of(0, 90, Some(90))], None),
            (vec![of(0, 90, Some(20))], Some(20)),
            (vec![of(1, 90, None), of(0, 30, None)], Some(30)),
            (vec![of(1, 90, Some(50)), of(0, 80, Some(10))], Some(10)),
        ] {
            let line = condensed(&events).next().unwrap();
            assert_eq!((line.at, line.first_at), (at(90), expected.map(at)), "{events:?}");
        }
    }
}
