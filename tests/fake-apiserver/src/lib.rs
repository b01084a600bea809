//! A fake Kubernetes API server: Nodes with their status, NodeFeature objects, Events and pods with
//! the proxy to them, as far as the node agent and `kubectl gpu` use them, and strict where the
//! real one is: authentication, rights by verb, server-side apply with its owners and conflicts,
//! validation, expired lists and watches.
//!
//! The rules are those of Kubernetes 1.33: apiserver's endpoints, structured-merge-diff, and
//! pkg/apis/core/validation for Events.
// A test's helper may panic: a panic is a failure with its place.
#![allow(clippy::unwrap_used)]

mod apply;
mod events;
mod history;
mod labels;
mod pods;
mod respond;
mod serve;
mod server;
mod state;
mod store;
mod table;
mod watch;

pub use server::FakeApiServer;
pub use state::{Fault, Received};
