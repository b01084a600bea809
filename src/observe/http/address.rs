//! The address at which HTTP is served.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::observe::client::Endpoint;

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
