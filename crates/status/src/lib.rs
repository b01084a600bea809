//! What the daemon knows, as one value with a versioned JSON form: for `/status`, the page, the
//! metrics and the subcommand `status`, which reads it back.
//!
//! [`build()`] makes it from a snapshot of the inventory and from what the edges say of themselves.
//! It is a view: nothing here is counted or kept but the last events, in the [`Journal`].

mod build;
mod event;
mod journal;
mod schema;
mod table;
mod time;
mod yaml;

pub use build::{Facts, build};
pub use event::{Event, EventKind};
pub use journal::{Happened, Journal};
pub use schema::*;
pub use table::table;
pub use time::{Timestamp, Wall};
pub use yaml::yaml;

#[cfg(test)]
pub(crate) mod tests;
