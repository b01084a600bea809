//! Where HTTP is served: a port or a unix socket.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, UnixListener};

use crate::host::socket_id::SocketId;
use crate::observe::client::{Endpoint, HttpStream};

/// Where to listen: `:PORT`, `IP:PORT` or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// On this port of every address.
    AnyAddress(u16),
    /// On a port of one address.
    Tcp(SocketAddr),
    /// On a unix socket that only our own user can open.
    Unix(PathBuf),
}

/// A text is not an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not IP:PORT, :PORT, unix:/PATH or empty")]
pub struct AddressError;

impl Address {
    /// Where a client on the same host connects, in the order to try.
    #[must_use]
    pub fn local_endpoints(&self) -> Vec<Endpoint> {
        let local = |port: u16| {
            let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
            [v4, v6].map(|address: IpAddr| Endpoint::Tcp(SocketAddr::new(address, port))).into()
        };
        match self {
            Self::AnyAddress(port) => local(*port),
            Self::Tcp(address) if address.ip().is_unspecified() => local(address.port()),
            Self::Tcp(address) => vec![Endpoint::Tcp(*address)],
            Self::Unix(path) => vec![Endpoint::Unix(path.clone())],
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let address = match text.strip_prefix(':') {
            Some(port) => port.parse().ok().map(Self::AnyAddress),
            None => text.replacen("localhost:", "127.0.0.1:", 1).parse().ok().map(Self::Tcp),
        };
        address.ok_or(AddressError)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyAddress(port) => write!(f, ":{port}"),
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A port or a unix socket that is listened on.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, BoundSocket),
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

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Box<dyn HttpStream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Binds under a temporary name and renames: the socket never has other permissions than its own,
/// and one that an earlier process left is replaced.
fn bind_unix(path: &Path) -> io::Result<Listener> {
    if let Ok(found) = fs::symlink_metadata(path)
        && !found.file_type().is_socket()
    {
        let problem = "there is a file that is not a socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
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
    use tokio::net::{TcpStream, UnixStream};

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
