//! Which pods hold which devices, which devices may leave their lists, and which GPUs can be
//! reset.

pub mod custody;
pub mod holders;
pub mod resets;
