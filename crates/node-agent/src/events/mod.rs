//! Events about the Node, and about the pods that hold its GPUs: what happened between two
//! statuses, brought together and written slowly.

mod notice;
mod queue;
mod writer;

pub use notice::{Notice, NoticeKind, PodName, notices, pod_notices};
pub use queue::{EventQueue, PendingEvent};
pub use writer::{Reporter, write_events};
