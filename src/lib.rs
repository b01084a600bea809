//! A Kubernetes device plugin for NVIDIA GPUs: it tells the kubelet which GPUs a node has, keeps
//! that list true, and hands GPUs to containers.
//!
//! # Modules, in reading order
//!
//! - the crate `device`: what the node has. Pure: names, GPUs, layout, health, topology,
//!   allocation, and what a container gets. Start with `device::inventory`.
//! - [`kubelet`]: the kubelet edge. `device_plugin` serves one resource from bind to unlink (start
//!   with [`kubelet::device_plugin::lifecycle`]); `pod_resources` asks which container holds which
//!   device.
//! - [`nvml`]: the hardware edge, the only module that names nvml_wrapper, with the threads that
//!   call it.
//! - [`host`]: the host edge: device nodes, paths in a root that is not ours, the state file, the
//!   quarantine directory, watches of directories.
//! - [`cdi`]: the files by which container runtimes add devices to containers, as the inventory
//!   changes.
//! - [`mps`]: the MPS edge: whether a control daemon is there; and, in a process of its own, their
//!   supervisor, which follows the status by the crate `status_stream`.
//! - [`observe`]: what people and programs see: the status, metrics, HTTP with the page, events of
//!   the log. The crate `status` has the schema of the status and its rendering as a table.
//! - [`control`]: the control socket, for requests that change something.
//! - [`config`]: the settings, where they come from, and the settings of each module that they
//!   become.
//! - [`doctor`]: why pods do not get GPUs: facts in, findings out; `gather` finds the facts.
//! - [`daemon`]: the only module that knows all edges: discover, connect, supervise, stop.
//! - [`cli`]: the command line and the subcommands that are not the daemon.
//! - [`util`]: small things that every edge may use.
//!
//! # Who may use whom
//!
//! ```text
//!   main ──▶ cli ──▶ doctor ──────────┐
//!     │       │                       ▼
//!     └──▶ daemon ──▶ config ──▶ kubelet  nvml  cdi  mps  control  observe ──▶ status (crate)
//!                                  └───────┴────┴─┬──┴─────┴────────┘
//!                                                 ▼
//!                                               host ──▶ util, device (crate)
//! ```
//!
//! `device` mentions no runtime, no protocol, no file system, no clock, no environment and no
//! thread: time and facts come in as values. The compiler holds that: thiserror is the crate's only
//! dependency. The edges do not know each other, and no two files import each other in a circle.
//! `tests/structure` holds the rest.
//!
//! # Who writes, who reads
//!
//! One task owns the inventory and applies every observation to it, each with its moment. It
//! publishes snapshots; every ListAndWatch stream and every call reads the latest one. So health
//! moves whether anybody watches or not, every stream gets every change, and Allocate waits for
//! nothing: neither NVML nor a disk nor a lock.
//!
//! # Flows
//!
//! Start: arguments, configuration, the state file, NVML on a thread of its own, one poll of each
//! GPU, inventory; then for each resource: bind, serve, Register, the kubelet dials back,
//! ListAndWatch.
//!
//! A GPU fails: an event or a poll, an observation, the verdict of `device::health`, the next
//! snapshot, one new list on each stream. What health wants to read next goes back to [`nvml`] as a
//! value; what must survive a restart is written to the state file.
//!
//! A call of NVML does not return: its thread is left to it, the GPU misses a deadline at each
//! poll, another thread goes on with the other GPUs, and when the call returns all GPUs are
//! enumerated again.
//!
//! The kubelet restarts, our socket is deleted, a stream is lost: each only wakes
//! [`kubelet::device_plugin::run`], which looks at what is there and asks
//! [`kubelet::device_plugin::lifecycle::PluginState::next`].
//!
//! Stop: the streams end, then the servers, our sockets are removed, and the process exits: it
//! never waits for NVML, which can hang for good on a sick GPU.

pub mod cdi;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod doctor;
pub mod host;
pub mod kubelet;
pub mod mps;
pub mod nvml;
pub mod observe;
pub mod util;
