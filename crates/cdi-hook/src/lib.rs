//! The hooks of the plugin's CDI specifications: what a container needs beside device nodes and
//! mounts, made while a runtime makes the container. They have the names and arguments of
//! NVIDIA's `nvidia-cdi-hook` (nvidia-container-toolkit, cmd/nvidia-cdi-hook/README.md), so that a
//! specification can name either program.
//!
//! # What holds
//!
//! - The container's files are an enemy's. Every path is resolved by the kernel beneath the
//!   container's root (openat2 with `RESOLVE_IN_ROOT`), each time from the root's descriptor, so
//!   neither a link nor a directory that is swapped meanwhile leads out of it: [`root`].
//! - What is read is looked at before it is opened: only regular files, of no file system of the
//!   kernel's. No device, FIFO or socket is ever opened.
//! - What is written lies on the container's own root file system, or in its `/dev`. A volume of
//!   the pod's gets nothing.
//! - Nothing is executed, nothing is loaded, and no variable of the environment is read.
//! - All that is read has a bound: [`limits`]. So has the time: [`deadline`].
//!
//! # Order
//!
//! `create-symlinks`, `enable-cuda-compat`, `update-ldcache`: each finds what the one before has
//! made. `apply-cuda-memory-limits` is called on the host's side (`createRuntime`), the others in
//! the container's mount namespace before its root is changed (`createContainer`).

mod application_profile;
mod chmod;
mod command;
mod create_symlinks;
mod cuda_compat;
pub mod deadline;
mod device_node_modification;
mod error;
mod hook;
mod kernel_files;
pub mod ldcache;
pub mod limits;
mod memory_limits;
mod oci;
pub mod privileges;
pub mod root;
mod run;

pub use command::{Command, USAGE};
pub use error::HookError;
pub use hook::{Hook, Host, Link, MemoryLimit};
pub use oci::StateSource;
pub use run::run;
