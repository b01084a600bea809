//! Which pods use which devices, which withdrawn devices can be reclaimed, and which GPUs can be
//! reset.

pub(crate) mod claim;
pub mod holders;
pub mod reset_schedule;
pub mod tracker;
pub mod usage;
