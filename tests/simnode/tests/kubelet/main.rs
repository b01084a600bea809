//! The fake kubelet against a plugin that keeps the contract, and against one that breaks it: each
//! rule has a test that fails without the rule.

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod lists;
mod pod_resources;
mod preferred;
mod registration;
mod restart;
mod streams;
mod unkind;
