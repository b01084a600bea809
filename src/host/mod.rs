//! The host: device nodes, the driver's files, our hook program, the memory that the kernel can
//! limit, the PCI bus and what stands in a virtual GPU's configuration, paths in another root,
//! files that others may have changed, the state file, the quarantine directory, watches of
//! directories, unix sockets as files, what is removed at the end, the time since the boot, and who
//! this process is.

pub mod boot_clock;
pub mod device_nodes;
pub mod dir_watch;
pub mod driver_files;
pub mod file;
pub mod file_id;
pub mod hook_directory;
pub mod hook_install;
pub mod identity;
pub mod memory_regions;
pub mod pci;
pub mod quarantine_dir;
pub mod root;
pub mod socket_id;
pub mod state_file;
pub mod unix_socket;
pub mod vgpu;
pub mod written_file;
