//! A Kubernetes device plugin for NVIDIA GPUs: it tells the kubelet which GPUs a node has, keeps
//! that list true, and hands GPUs to containers.
//!
//! # Modules, in reading order
//!
//! - [`device`]: what the node has. Pure: facts, names, health, allocation, and what a container
//!   gets. Start with [`device::inventory`].
//! - [`plugin`]: the kubelet edge, one resource from bind to unlink. Start with
//!   [`plugin::lifecycle`].
//! - [`podresources`]: which container holds which device, asked of the kubelet.
//! - [`nvml`]: the hardware edge, the only room that names nvml_wrapper, with the threads that call
//!   it.
//! - [`host`]: which device nodes the host has, and the driver's capability numbers.
//! - [`mps`]: whether an MPS control daemon answers.
//! - [`socket_id`]: which file is at a path.
//! - [`watch`]: one inotify instance for all directories that are watched.
//! - [`alarm`]: waiting for a moment with one wake-up.
//! - [`rooted`]: paths in a root that is not ours.
//! - [`memory`]: what GPUs went through, kept in a file over a restart.
//! - [`quarantine`]: the directory in which files speak against GPUs.
//! - [`config`]: what may be written, and what the daemon runs on.
//! - [`counters`]: counters that the edges keep of their own work.
//! - [`status`]: what the daemon knows, as one value with a versioned JSON form.
//! - [`http`]: the operator's edge: metrics, probes, status and a page for people.
//! - [`metrics`]: the text that Prometheus scrapes. A view.
//! - [`log`]: what the log says of the inventory's changes.
//! - [`client`]: the one who asks a running daemon over HTTP.
//! - [`check`]: one question about the node in one line, for node problem detector.
//! - [`doctor`]: why pods do not get GPUs: facts in, findings out, and beside it the one who
//!   gathers the facts.
//! - [`daemon`]: the only room that knows all others: discover, wire, supervise, stop.
//!
//! # Who may use whom
//!
//! ```text
//!   main ──▶ cli ──▶ doctor ──────────┐
//!     │       │                       ▼
//!     └──▶ daemon ──▶ config ──▶ kubelet  nvml  host  mps  observe ──▶ status (crate)
//!                                  └───────┴──┬──┴─────┴─────┴──▶ util
//!                                             ▼
//!                                       device (crate)
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
//! [`kubelet::device_plugin::lifecycle::State::next`].
//!
//! Stop: the streams end, then the servers, our sockets are removed, and the process exits: it
//! never waits for NVML, which can hang for good on a sick GPU.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod host;
pub mod kubelet;
pub mod mps;
pub mod nvml;
pub mod observe;
pub mod util;
