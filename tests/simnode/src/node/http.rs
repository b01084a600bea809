//! A small HTTP client: one request on a connection of its own, over a port or a unix socket.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// How long an answer may take: long enough that only a failure takes it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a server listens.
#[derive(Debug, Clone)]
pub enum HttpAddress {
    /// On a port: "127.0.0.1:1234".
    Tcp(String),
    /// On a unix socket.
    Unix(PathBuf),
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// The head, status line included.
    pub head: String,
    /// The body.
    pub body: String,
}

impl HttpAnswer {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (header, value) = line.split_once(':')?;
            header.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl HttpAddress {
    /// Reads `127.0.0.1:1234`, `[::]:1234` or `unix:/path`. Every address is dialled as the
    /// loopback one.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix("unix:") {
            Some(path) => Self::Unix(path.into()),
            None => Self::Tcp(text.replace("[::]", "127.0.0.1").replace("0.0.0.0", "127.0.0.1")),
        }
    }

    /// Gets a path.
    ///
    /// # Errors
    /// Nobody listens, or what comes is no answer.
    pub async fn get(&self, path: &str) -> anyhow::Result<HttpAnswer> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
    }

    /// Sends these bytes and reads until the server closes.
    ///
    /// # Errors
    /// Nobody listens, or what comes is no answer.
    pub async fn ask(&self, request: &str) -> anyhow::Result<HttpAnswer> {
        let asked = async {
            match self {
                Self::Tcp(address) => {
                    converse(TcpStream::connect(address.as_str()).await?, request).await
                }
                Self::Unix(path) => converse(UnixStream::connect(path).await?, request).await,
            }
        };
        let answer =
            tokio::time::timeout(PATIENCE, asked).await.context("no answer over HTTP")??;
        let text = String::from_utf8(answer).context("the answer over HTTP")?;
        let (head, body) =
            text.split_once("\r\n\r\n").ok_or_else(|| anyhow!("no answer over HTTP: {text:?}"))?;
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("no status in {head:?}"))?;
        Ok(HttpAnswer { status, head: head.to_owned(), body: body.to_owned() })
    }
}

async fn converse(
    mut io: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> std::io::Result<Vec<u8>> {
    // A server that refuses early closes before it has read all: what it said counts.
    let _ = io.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    match io.read_to_end(&mut answer).await {
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}
