//! The status of a node's GPUs with a versioned JSON schema: served at `/status`, shown on the
//! page, read by the subcommand `status`. And its rendering as a table and as YAML, with the
//! function by which everything that is shown of a text from outside is escaped.

mod escape;
mod event;
mod gpu;
mod schema;
mod table;
mod time;
mod yaml;

pub use escape::{Escaping, escaped, is_invisible};
pub use gpu::{Gpu, MigDevice, MigEngines, Reason, RecoveryAction, VgpuHost, XidCount};
pub use schema::*;
pub use table::{aligned, table};
pub use time::Timestamp;
pub use yaml::yaml;
