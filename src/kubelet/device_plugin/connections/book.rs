//! What is known of each open connection, and what follows from it.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

/// Connections on which nothing has come yet.
pub(super) const MAX_SILENT: usize = 128;
/// Connections that have spoken HTTP/2, as the kubelet's does at once, and on which nothing was
/// called yet. There are so many that the kubelet's gets to its first call before others push it
/// out.
pub(super) const MAX_UNUSED: usize = 64;
/// Connections of others on which something was called.
pub(super) const MAX_OTHERS: usize = 32;
/// ListAndWatch streams of others.
pub(super) const MAX_OTHER_STREAMS: usize = 16;
/// Connections that asked for the options during a registration and may be the kubelet's.
const MAX_CANDIDATES: usize = 8;
/// What the life cycle of the server depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Levels {
    /// The kubelet's ListAndWatch stream.
    pub stream: StreamLevel,
    /// Open connections that are or may be the kubelet's.
    pub kubelet: usize,
    /// Open connections.
    pub all: usize,
}

/// Whether the kubelet has its ListAndWatch stream open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamLevel {
    /// It had none yet.
    #[default]
    Never,
    /// It has.
    Open,
    /// It had.
    Ended,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) open: BTreeMap<u64, Connection>,
    /// The number of the next connection.
    next: u64,
    /// Counts calls, to tell which connection was used last.
    clock: u64,
    /// The first connection that can be in answer to the registration, once there was one.
    answers_from: Option<u64>,
    /// Whether a registration goes on, or has ended without an answer.
    pub(super) registering: bool,
    /// The kubelet's, once it has opened a stream; its entry is gone when it is closed.
    kubelet: Option<Kubelet>,
}

#[derive(Debug, Clone, Copy)]
struct Kubelet {
    number: u64,
    /// Whether it had asked for the options during the registration.
    asked: bool,
}

#[derive(Debug)]
pub(super) struct Connection {
    /// Dropped to close it.
    _close: oneshot::Sender<()>,
    stage: Use,
    /// When, by the book's clock.
    used: u64,
    /// Whether it asked for the options during a registration.
    asked: bool,
    /// Calls and streams that are not over.
    pub(super) calls: usize,
    pub(super) streams: usize,
}

/// What has come of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Nothing has come yet.
    Silent,
    /// The preface of HTTP/2.
    Greeted,
    /// Something was called.
    Called,
}

impl Book {
    /// Enters a connection: its number, and the receiver that ends when it is to be closed.
    pub(super) fn enter(&mut self) -> (u64, oneshot::Receiver<()>) {
        self.close_oldest(Use::Silent, MAX_SILENT);
        let number = self.next;
        self.next += 1;
        let (close, closed) = oneshot::channel();
        let connection = Connection {
            _close: close,
            stage: Use::Silent,
            used: 0,
            asked: false,
            calls: 0,
            streams: 0,
        };
        self.open.insert(number, connection);
        (number, closed)
    }

    /// The preface of HTTP/2 has come.
    pub(super) fn greeted(&mut self, number: u64) {
        self.close_oldest(Use::Greeted, MAX_UNUSED);
        if let Some(connection) = self.open.get_mut(&number) {
            connection.stage = Use::Greeted;
        }
    }

    /// A call has come. Returns whether it is the first one.
    pub(super) fn call_began(&mut self, number: u64) -> bool {
        self.clock += 1;
        let Some(connection) = self.open.get_mut(&number) else { return false };
        (connection.calls, connection.used) = (connection.calls + 1, self.clock);
        let is_first = std::mem::replace(&mut connection.stage, Use::Called) != Use::Called;
        if is_first {
            self.close_excess(number);
        }
        is_first
    }

    /// Register is about to be called.
    pub(super) fn registering(&mut self) {
        self.answers_from = Some(self.next);
        self.registering = true;
    }

    /// Whether this is the kubelet's, as far as is known.
    pub(super) fn has_priority(&self, number: u64) -> bool {
        self.kubelet
            .map_or_else(|| self.may_be_the_kubelet(number), |kubelet| kubelet.number == number)
    }

    pub(super) fn levels(&self) -> Levels {
        let stream = match self.kubelet {
            None => StreamLevel::Never,
            Some(kubelet) => match self.open.get(&kubelet.number) {
                Some(connection) if connection.streams > 0 => StreamLevel::Open,
                _ => StreamLevel::Ended,
            },
        };
        let kubelet = self.open.keys().filter(|number| self.may_be_the_kubelet(**number)).count();
        Levels { stream, kubelet, all: self.open.len() }
    }

    fn is_the_kubelet(&self, number: u64) -> bool {
        self.kubelet.is_some_and(|kubelet| kubelet.number == number)
    }

    fn may_be_the_kubelet(&self, number: u64) -> bool {
        self.is_the_kubelet(number)
            || self.open.get(&number).is_some_and(|connection| connection.asked)
    }

    /// Closes the oldest connection of this stage if there are so many.
    fn close_oldest(&mut self, stage: Use, most: usize) {
        let mut of_stage = self.open.iter().filter(|(_, connection)| connection.stage == stage);
        let oldest = of_stage.next().map(|(number, _)| *number);
        if let Some(oldest) = oldest
            && of_stage.count() + 1 >= most
        {
            self.open.remove(&oldest);
        }
    }

    /// Closes connections of others, but for `newest`, until there are no more than allowed: first
    /// those that do nothing, then those that were not used for longest.
    fn close_excess(&mut self, newest: u64) {
        let others = |book: &Self| {
            let called = |connection: &Connection| connection.stage == Use::Called;
            let called = book.open.iter().filter(|(_, connection)| called(connection));
            let numbers = called.map(|(number, _)| *number);
            numbers.filter(|number| !book.may_be_the_kubelet(*number)).collect::<Vec<_>>()
        };
        let mut numbers = others(self);
        numbers.sort_by_key(|number| {
            self.open.get(number).map(|other| (other.calls + other.streams > 0, other.used))
        });
        let excess = numbers.len().saturating_sub(MAX_OTHERS);
        for number in numbers.into_iter().filter(|number| *number != newest).take(excess) {
            self.open.remove(&number);
        }
    }

    /// Notes that this connection has asked for the options during a registration. Of too many, the
    /// first ones are forgotten.
    pub(super) fn has_asked(&mut self, number: u64) {
        if !self.registering || self.answers_from.is_none_or(|first| number < first) {
            return;
        }
        if let Some(connection) = self.open.get_mut(&number) {
            connection.asked = true;
        }
        let kubelet = self.kubelet.map(|kubelet| kubelet.number);
        let asked = self.open.iter_mut().filter(|(number, connection)| {
            connection.asked && Some(**number) != kubelet && connection.streams == 0
        });
        let mut asked: Vec<_> = asked.map(|(_, connection)| connection).collect();
        let excess = asked.len().saturating_sub(MAX_CANDIDATES);
        asked.iter_mut().take(excess).for_each(|connection| connection.asked = false);
    }

    /// Whether this stream is the kubelet's: the first one on a connection that came after Register
    /// was called. One that asked for the options meanwhile, as the kubelet does, comes before one
    /// that did not.
    pub(super) fn stream_opens(&mut self, number: u64) -> bool {
        let Some(connection) = self.open.get(&number) else { return false };
        let asked = connection.asked;
        let can_be = self.answers_from.is_some_and(|first| number >= first);
        if can_be && self.kubelet.is_none_or(|known| asked && !known.asked) {
            self.kubelet = Some(Kubelet { number, asked });
        }
        let others = self.open.iter().filter(|(number, _)| !self.is_the_kubelet(**number));
        let streams: usize = others.map(|(_, connection)| connection.streams).sum();
        if !self.is_the_kubelet(number) && streams >= MAX_OTHER_STREAMS {
            return false;
        }
        if let Some(connection) = self.open.get_mut(&number) {
            connection.streams += 1;
        }
        true
    }
}
