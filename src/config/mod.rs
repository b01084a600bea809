//! The configuration: command line, environment and file in, the [`Config`] in force out. Every
//! mistake in all sources is reported at once, each with its place.
//!
//! Reading order: [`settings`] is the table of everything that can be set; `model` has the fields
//! that they set; `file` and [`Sources`] find the values, and `load` puts them together and checks
//! them, again when the file changes. Beside them [`check`] checks files that hold configurations,
//! `show` prints one, `changes` compares two, and `reference` documents the table.

mod changes;
pub mod check;
mod checks;
mod choice;
mod duration;
mod embedded;
mod fields;
mod file;
mod filter;
mod found;
mod load;
mod model;
mod named;
mod names;
mod nearest;
mod places;
mod print;
mod reference;
mod report;
mod scalar;
pub mod settings;
mod sharing;
mod show;
mod source;
mod sources;
#[cfg(test)]
mod tests;
mod tree;
mod value;

pub use changes::ConfigChanges;
pub use checks::Purpose;
pub use choice::{Choice, DiscoveryStrategy};
pub use duration::parse as parse_duration;
pub use file::FileText;
pub use load::{Loaded, load};
pub use model::{Config, HealthConfig, ProcessConfig};
pub use reference::reference;
pub use report::{ConfigError, ConfigReport, Diagnostic, Origin, Origins};
pub use show::show;
pub use source::{ConfigSource, Reload};
pub use sources::Sources;
pub use value::yaml;
