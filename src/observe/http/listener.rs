//! Where HTTP is served: a port or a unix socket.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::host::dir_watch::Watches;
use crate::host::unix_socket::{ServedSocket, SocketSpec};
use crate::observe::client::{Endpoint, HttpStream};
use crate::util::backoff::Backoff;
use crate::util::log_rate_limit::LogRateLimit;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;
/// What the kernel may hold of an answer that is not read, in bytes; it takes twice as much. By
/// itself it takes some megabytes for each slow reader, and the pod's memory limit counts them.
const SEND_BUFFER: u32 = 64 << 10;
/// The first pause before binding is tried again, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// The pause after a connection could not be accepted: out of descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    Tcp(TcpListener, LogRateLimit),
    Unix(Box<ServedSocket>),
}

impl Listener {
    /// Listens at an address, and tries it again without end if it cannot.
    pub(super) async fn at(address: Address, watches: &Watches) -> Self {
        match address {
            Address::Unix(path) => Self::unix(path, watches).await,
            address => Self::tcp(&address).await,
        }
    }

    async fn tcp(address: &Address) -> Self {
        let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
        loop {
            let error = match bind_tcp(address) {
                Ok(listener) => return Self::Tcp(listener, LogRateLimit::new()),
                Err(error) => error,
            };
            let pause = backoff.next_delay();
            if pause == FIRST_PAUSE || pause == LAST_PAUSE {
                warn!(%address, %error, "cannot serve HTTP here, will retry; metrics and probes \
                    are missing until then");
            } else {
                let seconds = pause.as_secs();
                debug!(%address, %error, seconds, "cannot serve HTTP here, will retry");
            }
            sleep(pause).await;
        }
    }

    /// The directory may be of others, who read there: it is they who could replace the socket.
    async fn unix(path: PathBuf, watches: &Watches) -> Self {
        let spec = SocketSpec {
            path,
            group: None,
            guarded: false,
            name: "socket of HTTP",
            without: "metrics and probes are missing",
        };
        Self::served(spec, watches).await
    }

    /// The status socket at this path, for the members of a group too.
    pub(super) async fn status(path: &Path, group: Option<u32>, watches: &Watches) -> Self {
        let spec = SocketSpec {
            path: path.to_owned(),
            group,
            guarded: true,
            name: "status socket",
            without: "nobody gets the status there",
        };
        Self::served(spec, watches).await
    }

    async fn served(spec: SocketSpec, watches: &Watches) -> Self {
        let mut socket = ServedSocket::new(spec, watches.clone());
        socket.ready().await;
        Self::Unix(Box::new(socket))
    }

    /// Where it listens, as one would dial it.
    pub(super) fn address(&self) -> String {
        match self {
            Self::Tcp(listener, _) => {
                listener.local_addr().map_or_else(|_| "unknown".to_owned(), |at| at.to_string())
            }
            Self::Unix(socket) => format!("unix:{}", socket.path().display()),
        }
    }

    /// The next connection. Nothing is lost when it is dropped before.
    pub(super) async fn accept(&mut self) -> Box<dyn HttpStream> {
        let (listener, failed) = match self {
            Self::Unix(socket) => return Box::new(socket.accept().await),
            Self::Tcp(listener, failed) => (listener, failed),
        };
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Box::new(stream),
                Err(error) => {
                    if failed.allow() {
                        warn!(%error, "cannot accept a connection over HTTP");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Every IPv6 address means every IPv4 address too, whatever `net.ipv6.bindv6only` says: the
/// kubelet probes at whichever address the pod has.
fn bind_tcp(address: &Address) -> io::Result<TcpListener> {
    let at = match address {
        Address::Tcp(address) => *address,
        Address::AnyAddress(port) => match bind_at((Ipv6Addr::UNSPECIFIED, *port).into()) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                // A node without IPv6.
                (Ipv4Addr::UNSPECIFIED, *port).into()
            }
            bound => return bound,
        },
        Address::Unix(_) => return Err(io::ErrorKind::Unsupported.into()),
    };
    bind_at(at)
}

fn bind_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.is_ipv6() && address.ip().is_unspecified() {
        set_ipv6_v6only(&socket, false)?;
    }
    // The next process binds while connections of this one linger.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::{ipv6_v6only, socket_send_buffer_size};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn every_address_means_both_families_whatever_the_system_prefers() {
        let every = ["[::]:0".parse().unwrap(), Address::AnyAddress(0)];
        for address in every {
            let listener = bind_tcp(&address).unwrap();
            assert!(!ipv6_v6only(&listener).unwrap());
            // What is accepted has it from here.
            assert!(socket_send_buffer_size(&listener).unwrap() <= 2 * SEND_BUFFER as usize);
            let port = listener.local_addr().unwrap().port();
            TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            TcpStream::connect(("::1", port)).await.unwrap();
            let taken = bind_tcp(&Address::AnyAddress(port)).unwrap_err();
            assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        }
    }
}
