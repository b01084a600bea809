//! Events about the Node: what happened between two statuses, brought together and written slowly.

mod notice;
mod queue;
mod writer;

pub use notice::{Notice, NoticeKind, notices};
pub use queue::{EventQueue, PendingEvent};
pub use writer::{Reporter, write_events};
