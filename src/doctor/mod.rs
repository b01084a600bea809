//! Why a node's pods do not get GPUs: facts about the node go in, findings come out, each with what
//! was seen, why it matters and what fixes it. Nothing is changed on the node.
//!
//! [`examine`] and its checks are pure. [`gather`] finds the facts; NVML and the device nodes are
//! probed by a process of its own, since a driver that hangs can hold a process for good, and must
//! not hold the one that reports it. [`check`] answers one question for node problem detector.

pub mod check;
mod checks;
pub mod facts;
mod finding;
pub mod gather;
mod render;
#[cfg(test)]
mod tests;

pub use checks::examine;
pub use finding::{Finding, Group, Level, Report, Verdict};
pub use render::{TextStyle, json, text};
