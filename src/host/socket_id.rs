//! The identity of a socket's file.

/// The identity of a socket's file.
pub type SocketId = super::file_id::FileId;
