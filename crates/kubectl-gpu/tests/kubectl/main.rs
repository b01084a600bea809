//! `kubectl gpu` as a program, against an API server that is strict about rights, pages and
//! watches.
// A test's helper may unwrap as the test itself may: a panic is a failure with its place.
#![allow(clippy::unwrap_used)]

mod access;
mod completing;
mod listing;
mod one_node;
mod rig;
mod watching;
