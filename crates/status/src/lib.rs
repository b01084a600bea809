//! The status of a node's GPUs as one value with a versioned JSON form: served at `/status`, shown
//! on the page, read back by the subcommand `status`, and its rendering as a table and as YAML.

mod event;
mod schema;
mod table;
mod time;
mod yaml;

pub use event::{Event, EventKind};
pub use schema::*;
pub use table::table;
pub use time::Timestamp;
pub use yaml::yaml;
