//! The files with CDI specifications: as true as the inventory, at every moment.
//!
//! A container runtime resolves a name by what is in the directory when it makes the container. So
//! a name is given out only while a file has it: a device is listed after its name is written, and
//! a name is taken out of a file after the inventory has ceased to give it out (see
//! `device::inventory`). Names that pods may hold stay.
//!
//! What a file says is a function of the inventory, of what the host has, and of the settings:
//! [`device::cdi::specifications`]. All files are touched on a thread of its own.

pub mod clean_up;
pub mod generate;
mod json;
mod keeper;
mod settings;
mod spec_dir;
#[cfg(test)]
mod tests;
pub mod validate;

pub use json::{Document, MOST_BYTES, file_name};
pub use keeper::{DriverState, run};
pub use settings::{CdiPaths, CdiSettings, HookMode};
