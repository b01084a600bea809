//! The status of a node's GPUs with a versioned JSON schema: served at `/status`, shown on the
//! page, read by the subcommand `status`. And its rendering as a table and as YAML, with how every
//! program words what is from outside: errors with their sources in one line, texts escaped and
//! cut.

mod brief;
mod columns;
pub mod error_chain;
mod escape;
mod event;
mod gpu;
mod gpu_problems;
mod json;
mod names;
mod paint;
mod problem;
mod problems;
mod read;
mod resource;
mod schema;
mod summary;
mod table;
mod time;
mod yaml;

pub use brief::{BRIEF_VERSION, BriefProblem, MAX_BRIEF, NodeBrief};
pub use columns::{Columns, aligned};
pub use escape::{Escaping, bounded, escaped, is_invisible};
pub use event::{EventLine, condensed};
pub use gpu::{Gpu, MigDevice, MigEngines, Reason, RecoveryAction, VgpuHost, XidCount};
pub use json::visible_json;
pub use problem::{Holder, Problem, Severity};
pub use read::read;
pub use resource::{
    Device, MpsShare, MpsSharing, Registration, Resource, Sharing, SharingStrategy,
};
pub use schema::*;
pub use summary::GpuTally;
pub use table::{TableStyle, problems_text, table};
pub use time::{Timestamp, duration};
pub use yaml::yaml;
