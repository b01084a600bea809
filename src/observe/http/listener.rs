//! Listens on a port or on a unix socket.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::address::Address;
use crate::host::socket_id::SocketId;

/// A port or a unix socket that is listened on.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, BoundSocket),
}

/// A connection.
pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// Our socket in the file system, removed on drop if it still is ours.
pub(super) struct BoundSocket {
    path: PathBuf,
    id: Option<SocketId>,
}

impl Listener {
    pub(super) async fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::AnyAddress(port) => match TcpListener::bind(("::", *port)).await {
                Ok(listener) => Ok(Self::Tcp(listener)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
                // A node without IPv6.
                Err(_) => TcpListener::bind(("0.0.0.0", *port)).await.map(Self::Tcp),
            },
            Address::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Address::Unix(path) => bind_unix(path),
        }
    }

    /// Where it listens, as one would dial it.
    pub(super) fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| "unknown".to_owned(), |at| at.to_string())
            }
            Self::Unix(_, bound) => format!("unix:{}", bound.path.display()),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                listener.accept().await.map(|(connection, from)| Accepted::Tcp(connection, from))
            }
            Self::Unix(listener, _) => {
                listener.accept().await.map(|(connection, _)| Accepted::Unix(connection))
            }
        }
    }
}

/// Binds under a temporary name and renames: the socket never has other permissions than its own,
/// and one that an earlier process left is replaced.
fn bind_unix(path: &Path) -> io::Result<Listener> {
    if let Ok(found) = fs::symlink_metadata(path)
        && !found.file_type().is_socket()
    {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file that is not a socket",
        ));
    }
    let temporary = path.with_extension("next");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
    fs::rename(&temporary, path)?;
    let id = SocketId::of(path).ok().flatten();
    Ok(Listener::Unix(listener, BoundSocket { path: path.to_owned(), id }))
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if self.id.is_some() && SocketId::of(&self.path).is_ok_and(|found| found == self.id) {
            // Best effort: the next process replaces one that stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_unix_socket_is_for_us_alone_replaces_a_stale_one_and_goes_with_us() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("http.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let address = Address::Unix(path.clone());
        let listener = Listener::bind(&address).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).await.unwrap();
        // The next process has taken the path: ours is not to be removed any more.
        let next = Listener::bind(&address).await.unwrap();
        drop(listener);
        UnixStream::connect(&path).await.unwrap();
        drop(next);
        assert!(!path.exists());
        fs::write(&path, "a file").unwrap();
        assert!(Listener::bind(&address).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
    }

    #[tokio::test]
    async fn every_address_means_both_families() {
        let listener = Listener::bind(&Address::AnyAddress(0)).await.unwrap();
        let Listener::Tcp(tcp) = &listener else { panic!("it is a port") };
        let port = tcp.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let taken = Listener::bind(&Address::AnyAddress(port)).await.err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }
}
