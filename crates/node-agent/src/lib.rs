//! Tells the Kubernetes API what the GPU device plugin knows of its node, and the plugin which
//! configuration the Node's label names.
//!
//! It reads the plugin's status socket and nothing else of the node: neither NVML nor sysfs, and it
//! needs no privilege. The plugin does not know that it exists, and nothing here delays what the
//! plugin does. Of what it may change in it there is the name of a configuration, which the plugin
//! looks up where this program cannot write.
//!
//! # Modules, in reading order
//!
//! - the crate `status_stream`: the plugin's status, again whenever it changes.
//! - [`args`]: the command line, which takes that of NVIDIA's GPU feature discovery too.
//! - `without_effect`: the flags that are taken and change nothing.
//! - [`labels`], [`condition`], [`taint`], [`summary`], [`events`]: what follows from a status.
//! - [`api`]: requests to the API server.
//! - [`retry`]: the pauses between attempts, and how they are logged.
//! - [`keep`]: keeps one thing in the cluster as it should be, and retries for good.
//! - [`node_labels`]: the labels of the Node, again whenever they change.
//! - [`config`], [`release`]: what labels say to the plugin: which configuration it has, whether
//!   it releases NVML.
//! - [`outputs`]: where labels go: the Node, a NodeFeature object, a file.
//! - [`run`]: the functions that are turned on, each a task of its own.
//! - [`cleanup`], [`turned_off`]: remove what was written.

pub mod api;
pub mod args;
pub mod cleanup;
pub mod condition;
pub mod config;
pub mod events;
pub mod keep;
pub mod labels;
pub mod node_labels;
pub mod outputs;
pub mod release;
pub mod retry;
pub mod run;
pub mod summary;
pub mod taint;
pub mod turned_off;
mod without_effect;
