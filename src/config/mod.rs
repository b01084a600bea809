//! Configuration, in two storeys: what may be written (command line, environment, file) and the
//! [`Config`] that the daemon runs on. Every mistake in all sources is told at once, each with its
//! place.
//!
//! Reading order: [`settings`] is the table of everything that can be set; `args` and `file` find
//! what was written; `load` weighs it (flag before environment before file before default) and
//! checks it; `model` is the result. Beside them `show` prints a configuration, `changes` compares
//! two, and `source` follows the file over time.

mod changes;
mod choice;
mod duration;
mod fields;
mod file;
mod filter;
mod health;
mod load;
mod model;
mod names;
mod nearest;
mod raw;
mod report;
mod resources;
mod scalar;
pub mod settings;
mod sharing;
mod show;
mod source;
mod sources;
#[cfg(test)]
mod tests;
pub mod translate;
mod tree;

pub use changes::Changes;
pub use choice::{
    CdiFeature, Choice, DiscoveryStrategy, LogFormat, SharedPolicy, UnknownWord, WholeGpuPolicy,
};
pub use file::FileText;
pub use filter::NotATerm;
pub use load::{Loaded, Purpose, load};
pub use model::{
    Allocation, Cdi, Config, DisabledHooks, Health, HttpAddress, Imex, Injection, KubeletSocket,
    Layout, Process, Xids,
};
pub use report::{Origin, Origins, Refused, Remark, Report};
pub use show::show;
pub use source::{ConfigSource, Reload};
pub use sources::Sources;
pub use tree::yaml;

pub use device::injection::{DeviceIdStrategy, DeviceListStrategy};
pub use device::layout::filter::{DeviceFilter, FilterDecision, Pattern, Term};
pub use device::layout::sharing::{DeviceRef, Replication, Selection, SharedResource, Sharing};
pub use device::layout::{MigStrategy, NamePattern};
