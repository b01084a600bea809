//! The command line and the subcommands that do not serve.

pub mod args;
mod check;
mod config;
mod doctor;
mod output;
mod status;

pub use check::check;
pub use config::{USAGE, config};
pub use doctor::doctor;
pub use status::status;
