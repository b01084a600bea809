//! The HTTP/1.1 server: metrics, probes, the status, and a page for people.
//!
//! It shows what the daemon knows, through `Views`, at the address of `--http-address` and on the
//! status socket, and changes nothing: what changes something comes over the control socket. It
//! cannot harm the plugin: a connection is for one request and has a deadline, there are few at a
//! time, a new one displaces the oldest, what is not read yet is bounded in bytes, and one answer
//! is rendered at a time, so that the kubelet always has the other thread.
//!
//! On the status socket a request may also wait for the next status (`/status?after=TOKEN`). Such a
//! connection waits a minute at most, and apart from the others.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod in_flight;
mod listener;
mod page;
mod responder;
mod route;
mod server;
mod waiters;

use std::path::{Path, PathBuf};

pub use listener::{Address, AddressError};
pub(crate) use responder::Views;
pub(crate) use server::{Served, serve};

use super::client::Endpoint;

/// The status socket of a daemon with this state directory.
#[must_use]
pub fn status_socket_path(state_directory: &Path) -> PathBuf {
    state_directory.join("status.sock")
}

/// Where a client on the same host asks a daemon with these settings, in the order to try: at the
/// status socket, if it is there, since nobody else can have it, and at the address of HTTP.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "in the program that asks")]
pub fn local_endpoints(state_directory: Option<&Path>, address: Option<&Address>) -> Vec<Endpoint> {
    let socket = state_directory.map(status_socket_path).filter(|socket| socket.exists());
    let addresses = address.map(Address::local_endpoints).unwrap_or_default();
    socket.map(Endpoint::Unix).into_iter().chain(addresses).collect()
}
