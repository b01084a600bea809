//! The host edge: device nodes, paths in a root that is not ours, the state file, the quarantine
//! directory, and watches of directories.

pub mod device_nodes;
pub mod memory;
pub mod quarantine;
pub mod rooted;
pub mod socket_id;
pub mod watch;
