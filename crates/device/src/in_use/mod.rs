//! Which pods hold which devices, which devices may leave their lists, and which GPUs can be
//! reset.

pub mod holders;
pub mod reset_schedule;
pub mod tracker;
