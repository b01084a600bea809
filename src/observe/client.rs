//! An HTTP client for a running daemon, at its port or its unix socket.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// The largest body that is read, in bytes: some times the status of 8,000 devices.
const MAX_BODY: usize = 16 << 20;
/// The largest head of an answer, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// For how long an endpoint is waited for alone. After that the next one is asked beside it: one
/// that listens and says nothing must not take the time of the others.
const HEAD_START: Duration = Duration::from_millis(150);

/// Where a daemon may listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpResponse {
    /// The HTTP status code.
    pub(crate) code: u16,
    /// The body.
    pub(crate) body: String,
}

/// A connection of either kind.
pub(super) trait HttpStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> HttpStream for T {}

/// Why no daemon has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// There is nowhere to ask.
    Nowhere,
    /// Each endpoint, with what came of it.
    Tried(Vec<(Endpoint, String)>),
}

impl NoAnswer {
    /// In few words, for a line that is cut off after 80 bytes.
    #[must_use]
    pub(crate) fn brief(&self) -> String {
        let Self::Tried(tried) = self else { return "there is nowhere to ask".to_owned() };
        let name = |endpoint: &Endpoint| match endpoint {
            Endpoint::Tcp(address) => address.to_string(),
            Endpoint::Unix(path) => path.file_name().unwrap_or_default().display().to_string(),
        };
        let each = tried.iter().map(|(endpoint, error)| format!("{} {error}", name(endpoint)));
        format!("no plugin answers: {}", each.collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Tried(tried) = self else {
            return f.write_str(
                "there is nowhere to ask: no status.sock in the state directory (--state-dir), \
                 and the plugin's HTTP address is empty (--http-address, environment HTTP_ADDRESS)",
            );
        };
        let each = tried.iter().map(|(endpoint, error)| format!("{endpoint} ({error})"));
        write!(f, "the plugin does not answer: {}", each.collect::<Vec<_>>().join(", "))
    }
}

impl From<NoAnswer> for String {
    fn from(error: NoAnswer) -> Self {
        error.to_string()
    }
}

/// Requests `path` from the endpoints, in their order and each with a head start over the next, all
/// within `deadline`. The first answer counts, whatever it is.
///
/// # Errors
/// None of them answers: each with why. There is none where nothing is served.
pub(crate) async fn get(
    endpoints: &[Endpoint],
    path: &'static str,
    deadline: Duration,
) -> Result<HttpResponse, NoAnswer> {
    if endpoints.is_empty() {
        return Err(NoAnswer::Nowhere);
    }
    let late = format!("no answer within {} ms", deadline.as_millis());
    let mut errors = vec![late; endpoints.len()];
    let end = Instant::now() + deadline;
    let mut waiting = endpoints.iter().cloned().enumerate();
    let mut asked = JoinSet::new();
    loop {
        let next = waiting.next();
        let until = if next.is_some() { end.min(Instant::now() + HEAD_START) } else { end };
        if let Some((number, endpoint)) = next {
            asked.spawn(async move { (number, request(&endpoint, path).await) });
        }
        match timeout_at(until, asked.join_next()).await {
            Ok(Some(Ok((_, Ok(response))))) => return Ok(response),
            Ok(Some(Ok((number, Err(error))))) => {
                if let Some(of_endpoint) = errors.get_mut(number) {
                    *of_endpoint = error;
                }
            }
            // All have failed.
            Ok(None) => break,
            Ok(Some(Err(_))) => {}
            Err(_) if Instant::now() >= end => break,
            Err(_) => {}
        }
    }
    Err(NoAnswer::Tried(endpoints.iter().cloned().zip(errors).collect()))
}

async fn request(endpoint: &Endpoint, path: &str) -> Result<HttpResponse, String> {
    let (stream, host) = connect(endpoint).await.map_err(|error| match error.kind() {
        // Without the number of the error.
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::NotFound => "not there".to_owned(),
        _ => error.to_string(),
    })?;
    let words = |error: hyper::Error| format!("it does not speak HTTP: {error}");
    let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(words)?;
    // It ends with the response, or with this.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let response = async {
        let request = Request::get(path).header(HOST, host).body(Empty::<Bytes>::new());
        let request = request.map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(words)?;
        let code = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        Ok(HttpResponse { code, body: String::from_utf8_lossy(&body).into_owned() })
    };
    response.await
}

/// A connection, and the host to name in requests over it.
async fn connect(endpoint: &Endpoint) -> io::Result<(Box<dyn HttpStream>, String)> {
    Ok(match endpoint {
        Endpoint::Tcp(address) => {
            (Box::new(TcpStream::connect(address).await?), address.to_string())
        }
        Endpoint::Unix(path) => {
            (Box::new(UnixStream::connect(path).await?), "localhost".to_owned())
        }
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn reply(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) -> String {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(text.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    }

    #[tokio::test]
    async fn the_first_endpoint_that_answers_counts_whatever_it_is() {
        let place = tempfile::tempdir().unwrap();
        let (absent, there) =
            (Endpoint::Unix(place.path().join("absent")), place.path().join("there"));
        let unix = UnixListener::bind(&there).unwrap();
        let served = tokio::spawn(async move {
            reply(unix.accept().await.unwrap().0, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await
        });
        let answer =
            get(&[absent.clone(), Endpoint::Unix(there)], "/healthz", PATIENCE).await.unwrap();
        assert_eq!(answer, HttpResponse { code: 200, body: "ok".to_owned() });
        assert!(served.await.unwrap().contains("host: localhost"));
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = tcp.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let text = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\nnot yet";
            reply(tcp.accept().await.unwrap().0, text).await
        });
        let answer = get(&[Endpoint::Tcp(at)], "/readyz", PATIENCE).await.unwrap();
        assert_eq!(answer, HttpResponse { code: 503, body: "not yet".to_owned() });
        let request = served.await.unwrap();
        assert!(
            request.starts_with("GET /readyz HTTP/1.1\r\n")
                && request.contains(&format!("host: {at}")),
            "{request}"
        );
        let error = get(&[absent, Endpoint::Tcp(at)], "/", PATIENCE).await.unwrap_err().to_string();
        assert!(error.contains("/absent (not there), http://127.0.0.1:"), "{error}");
        assert!(error.ends_with("(connection refused)"), "{error}");
    }

    #[tokio::test]
    async fn an_endpoint_that_listens_and_never_answers_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = Endpoint::Tcp(listener.local_addr().unwrap());
        let error = get(&[place], "/status", Duration::from_millis(50)).await.unwrap_err();
        assert!(error.to_string().contains("no answer within 50 ms"), "{error}");
    }

    #[tokio::test]
    async fn one_that_listens_and_says_nothing_does_not_take_the_time_of_the_next() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoints =
            [&silent, &slow].map(|listener| Endpoint::Tcp(listener.local_addr().unwrap()));
        tokio::spawn(async move {
            let text = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            reply(slow.accept().await.unwrap().0, text).await
        });
        let answer = get(&endpoints, "/status", PATIENCE).await.unwrap();
        assert_eq!(answer.body, "ok");
    }

    #[tokio::test]
    async fn an_answer_without_end_is_not_read_to_its_end() {
        for begin in ["HTTP/1.1 200 OK\r\na: ", "HTTP/1.1 200 OK\r\n\r\n"] {
            let endless = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let endpoint = Endpoint::Tcp(endless.local_addr().unwrap());
            tokio::spawn(async move {
                let mut stream = endless.accept().await.unwrap().0;
                let mut text = begin.to_owned();
                while stream.write_all(text.as_bytes()).await.is_ok() {
                    text = "a".repeat(1 << 16);
                }
            });
            let error = get(&[endpoint], "/status", PATIENCE).await.unwrap_err();
            assert!(!error.to_string().contains("no answer within"), "{error}");
        }
    }

    #[tokio::test]
    async fn without_an_address_nothing_is_requested() {
        let error = get(&[], "/status", PATIENCE).await.unwrap_err();
        assert!(error.to_string().contains("--http-address"), "{error}");
    }
}
