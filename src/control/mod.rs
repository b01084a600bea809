//! The control socket: requests that change something, for whoever may open a socket of the
//! plugin's own user. HTTP only shows.
//!
//! `control.sock` in the state directory takes one request on each connection, a line of JSON, and
//! answers with another. The connections are few and short, and none of them holds up anything.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod client;
mod protocol;
mod server;

use std::path::{Path, PathBuf};

pub use protocol::{Answer, Request};
pub use server::serve;

/// The control socket of a daemon with this state directory.
#[must_use]
pub fn socket_path(state_directory: &Path) -> PathBuf {
    state_directory.join("control.sock")
}
