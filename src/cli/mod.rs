//! The command line and the subcommands that do not serve.

pub mod args;
mod check;
mod command;
mod config;
mod doctor;
mod invocation;
mod list_gpus;
mod output;
mod status;

pub use check::check;
pub use command::command;
pub use config::{USAGE, config};
pub use doctor::doctor;
pub use invocation::Invocation;
pub use list_gpus::list_gpus;
pub use status::status;
