//! The open connections of one server: which of them is the kubelet's, and which one goes when
//! there are too many.
//!
//! Everybody who may look into the plugin directory can connect, and credentials do not tell the
//! kubelet: it is root like others, and lives in another pid namespace. But it calls back while it
//! handles Register, asks for the options on that connection, and opens its stream on it. So the
//! connection that does this is the kubelet's; it is never closed for another one, and its stream
//! is the one that counts.

mod book;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Semaphore, SemaphorePermit, oneshot, watch};

use book::Book;
pub(super) use book::{Levels, StreamLevel};

use crate::util::lock;

/// What of the requests of others is held at a time, and as much of the answers to them, in KiB:
/// more than the longest message.
const OTHERS_KIB: usize = 5 << 10;
/// The same for the kubelet, which waits for no other.
const KUBELET_KIB: usize = 8 << 10;

/// The open connections. Clones share them.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    levels: watch::Sender<Levels>,
    kubelet_memory: Memory,
    others_memory: Memory,
    /// Held by the call that works now, and by the long one that works now and then. The kubelet's
    /// wait for neither.
    turn: Semaphore,
    long: Semaphore,
}

/// The room for messages, in KiB. Requests and answers have their own, so that an answer never
/// waits for a request that waits for an answer.
#[derive(Debug, Clone)]
pub struct Memory {
    /// For requests, from their head until they are answered.
    pub requests: Arc<Semaphore>,
    /// For answers until they are sent.
    pub answers: Arc<Semaphore>,
}

impl Memory {
    fn of(kib: usize) -> Self {
        let semaphore = || Arc::new(Semaphore::new(kib));
        Self { requests: semaphore(), answers: semaphore() }
    }
}

/// One connection, as its calls see it. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Peer {
    connections: Connections,
    number: u64,
}

impl Default for Connections {
    fn default() -> Self {
        Self(Arc::new(Shared {
            book: Mutex::default(),
            levels: watch::Sender::default(),
            kubelet_memory: Memory::of(KUBELET_KIB),
            others_memory: Memory::of(OTHERS_KIB),
            turn: Semaphore::new(1),
            long: Semaphore::new(1),
        }))
    }
}

impl Connections {
    /// Enters a connection. The receiver ends when it is to be closed. Another one may be closed
    /// for it: the oldest on which nothing has come yet.
    pub fn enter(&self) -> (Peer, oneshot::Receiver<()>) {
        let mut book = self.book();
        let (number, closed) = book.enter();
        self.publish(book);
        (Peer { connections: self.clone(), number }, closed)
    }

    /// Register is about to be called: connections that come from now on may be the answer.
    pub fn registering(&self) {
        self.book().registering();
    }

    /// Register was answered. One that was not can still be going on.
    pub fn register_answered(&self) {
        self.book().registering = false;
    }

    /// The levels, and their changes.
    #[must_use]
    pub fn levels(&self) -> watch::Receiver<Levels> {
        self.0.levels.subscribe()
    }

    /// Closes all connections.
    pub fn close_all(&self) {
        let mut book = self.book();
        book.open.clear();
        self.publish(book);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.0.book)
    }

    fn publish(&self, book: MutexGuard<'_, Book>) {
        let levels = book.levels();
        drop(book);
        self.0.levels.send_if_modified(|last| std::mem::replace(last, levels) != levels);
    }
}

impl Peer {
    /// The preface of HTTP/2 has come.
    pub fn greeted(&self) {
        let mut book = self.connections.book();
        book.greeted(self.number);
        self.connections.publish(book);
    }

    /// A call has come.
    pub fn call_began(&self) {
        let mut book = self.connections.book();
        if book.call_began(self.number) {
            self.connections.publish(book);
        }
    }

    /// A call is over: its answer was sent, or the client has given it up.
    pub fn call_ended(&self) {
        if let Some(connection) = self.connections.book().open.get_mut(&self.number) {
            connection.calls = connection.calls.saturating_sub(1);
        }
    }

    /// The options were asked for.
    pub fn options_asked(&self) {
        let mut book = self.connections.book();
        if book.registering {
            book.has_asked(self.number);
            self.connections.publish(book);
        }
    }

    /// A ListAndWatch stream is about to open. False: there are too many.
    #[must_use]
    pub fn stream_opens(&self) -> bool {
        let mut book = self.connections.book();
        let opens = book.stream_opens(self.number);
        self.connections.publish(book);
        opens
    }

    /// A ListAndWatch stream has ended.
    pub fn stream_ended(&self) {
        let mut book = self.connections.book();
        if let Some(connection) = book.open.get_mut(&self.number) {
            connection.streams = connection.streams.saturating_sub(1);
        }
        self.connections.publish(book);
    }

    /// It is closed.
    pub fn closed(&self) {
        let mut book = self.connections.book();
        book.open.remove(&self.number);
        self.connections.publish(book);
    }

    fn has_priority(&self) -> bool {
        self.connections.book().has_priority(self.number)
    }

    /// The room for its messages.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        let shared = &self.connections.0;
        if self.has_priority() { &shared.kubelet_memory } else { &shared.others_memory }
    }

    /// Held for a slice of work. The kubelet waits for nobody.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.permit(&self.connections.0.turn).await
    }

    /// Held for a call that takes many slices, until its answer has found room.
    pub async fn long_turn(&self) -> Option<SemaphorePermit<'_>> {
        self.permit(&self.connections.0.long).await
    }

    async fn permit<'a>(&self, turn: &'a Semaphore) -> Option<SemaphorePermit<'a>> {
        if self.has_priority() {
            return None;
        }
        // It is never closed.
        turn.acquire().await.ok()
    }
}
