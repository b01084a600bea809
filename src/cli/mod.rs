//! The command line: what it may say, and the subcommands that look at a node and its daemon.

pub mod args;
pub mod commands;
