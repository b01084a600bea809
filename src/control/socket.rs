//! The socket as a file: how it is made, and whether it is still there.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 16;
/// The mode of the socket.
const MODE: u32 = 0o600;
/// The bit by which others may write.
const OTHERS_WRITE: u32 = 0o002;
/// How long another process may take to accept a connection.
const PROBE: Duration = Duration::from_secs(1);

/// Our socket, listening; removed on drop if the file is still ours.
#[derive(Debug)]
pub(super) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    id: FileId,
}

/// Device and inode number. As long as we listen, no other file can have those of ours.
type FileId = (u64, u64);

impl ControlSocket {
    /// Binds under another name and renames. The mode is set before there is a file, so nobody
    /// else can ever connect, whatever the umask.
    ///
    /// # Errors
    /// `AddrInUse`: another process listens at the path. Anything else that is there and is no
    /// socket, a directory that others may write to, or the file system's.
    pub(super) async fn bind(path: &Path) -> io::Result<Self> {
        let next = path.with_extension("next");
        for place in [path, &next] {
            remove_if_dead(place).await?;
        }
        let socket = UnixSocket::new_stream()?;
        fchmod(&socket, Mode::from_raw_mode(MODE))?;
        socket.bind(&next)?;
        let id = checked(&next).inspect_err(|_| drop(fs::remove_file(&next)))?;
        let listener = socket.listen(BACKLOG)?;
        fs::rename(&next, path)?;
        Ok(Self { listener, path: path.to_owned(), id })
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Whether the file at the path is still this socket.
    pub(super) fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|file| id(&file) == self.id)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if self.is_there() {
            // Best effort: the next process replaces one that stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn id(file: &fs::Metadata) -> FileId {
    (file.dev(), file.ino())
}

/// Looks at what was bound: it has to be for us alone, in a directory where nobody else can put
/// another in its place.
fn checked(socket: &Path) -> io::Result<FileId> {
    let file = fs::symlink_metadata(socket)?;
    let directory = fs::metadata(socket.parent().unwrap_or(Path::new(".")))?;
    if !file.file_type().is_socket() || file.mode() & 0o777 & !MODE != 0 {
        return Err(io::Error::other("it cannot be made for its own user alone"));
    }
    if ![0, file.uid()].contains(&directory.uid()) || directory.mode() & OTHERS_WRITE != 0 {
        return Err(io::Error::other("others may write to its directory"));
    }
    Ok(id(&file))
}

/// Removes a socket on which nobody listens.
async fn remove_if_dead(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            let problem = "there is a file that is not a socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
        }
        Ok(_) => {}
    }
    match tokio::time::timeout(PROBE, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // It is gone by now.
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // One that is too busy to accept listens as well.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    #[tokio::test]
    async fn it_is_for_us_alone_replaces_a_stale_one_and_goes_with_us() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        for stale in [&path, &path.with_extension("next")] {
            drop(std::os::unix::net::UnixListener::bind(stale).unwrap());
        }
        let socket = ControlSocket::bind(&path).await.unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(socket.is_there() && !path.with_extension("next").exists());
        UnixStream::connect(&path).await.unwrap();
        let taken = ControlSocket::bind(&path).await.unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        assert!(socket.is_there(), "one that is alive stays");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn one_that_was_replaced_is_not_ours_to_remove() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let first = ControlSocket::bind(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!first.is_there());
        let second = ControlSocket::bind(&path).await.unwrap();
        assert!(!first.is_there());
        drop(first);
        assert!(second.is_there());
    }

    #[tokio::test]
    async fn nothing_of_others_is_touched_and_no_directory_of_others_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let target = directory.path().join("target");
        fs::write(&target, "a file").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(ControlSocket::bind(&path).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
        fs::remove_file(&path).unwrap();
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(directory.path(), open).unwrap();
        let error = ControlSocket::bind(&path).await.unwrap_err();
        assert!(error.to_string().contains("others may write"), "{error}");
        assert!(!path.exists() && !path.with_extension("next").exists());
        assert!(ControlSocket::bind(&directory.path().join("no/control.sock")).await.is_err());
    }
}
