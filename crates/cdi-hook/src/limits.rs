//! The most of everything that is read: a container that has more of something gets what was found
//! up to there, or an error. A large image has a tenth of each.

/// Bytes of the state that a runtime hands over. runc's has less than 1 KiB beside annotations.
pub const STATE_BYTES: usize = 1 << 20;
/// Bytes of the container's configuration, of which `root.path` is read.
pub const CONFIG_BYTES: usize = 16 << 20;
/// Components of a path that is made.
pub const PATH_COMPONENTS: usize = 64;
/// Links, or paths, of one call.
pub const ARGUMENTS: usize = 4096;

/// Bytes of `ld.so.conf` and of all that it includes.
pub const CONF_BYTES: usize = 256 << 10;
/// Bytes of the path of a directory in it.
pub const CONF_PATH_BYTES: usize = 1024;
/// Files of the loader's configuration.
pub const CONF_FILES: usize = 256;
/// How deep they may include each other.
pub const CONF_DEPTH: usize = 8;
/// Names that are looked at for all patterns of `include`.
pub const GLOB_NAMES: usize = 65_536;
/// Directories with libraries.
pub const DIRECTORIES: usize = 256;
/// Entries of one directory.
pub const DIRECTORY_ENTRIES: usize = 32_768;
/// Entries of all directories.
pub const ENTRIES: usize = 131_072;
/// Names of libraries that are looked at.
pub const LIBRARIES: usize = 16_384;
/// Directories below one `glibc-hwcaps`.
pub const HWCAPS: usize = 32;

/// Segments of an ELF file.
pub const ELF_SEGMENTS: usize = 128;
/// Bytes of the dynamic section of an ELF file.
pub const ELF_DYNAMIC_BYTES: usize = 64 << 10;
/// Bytes of a SONAME; a file name has no more.
pub const NAME_BYTES: usize = 255;
/// Bytes of the note with an ELF file's properties.
pub const ELF_NOTE_BYTES: usize = 1024;

/// Bytes of a file of the kernel's in `/proc` or in the tree of cgroups.
pub const KERNEL_FILE_BYTES: usize = 64 << 10;
/// Entries of the container's `/dev`.
pub const DEV_ENTRIES: usize = 16_384;
