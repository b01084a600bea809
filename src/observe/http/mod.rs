//! The HTTP/1.1 server: metrics, probes, the status, and a page for people.
//!
//! It shows what the daemon knows, through `Views`. It cannot harm the plugin: a connection is
//! for one request and has a deadline, there are few at a time, a new one displaces the oldest, and
//! one answer is rendered at a time, so that the kubelet always has the other thread.

mod listener;
mod page;
mod responder;
mod route;
mod server;

pub use listener::{Address, AddressError};
pub(crate) use responder::Views;
pub(crate) use server::serve;
