//! A client of the control socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::protocol::{self, Answer, MAX_ANSWER, Request};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens on the socket, or not for us.
    #[error("no plugin answers at {path}: {}", reason(source))]
    Connect {
        /// The socket.
        path: String,
        /// The error of the connection.
        source: io::Error,
    },
    /// The connection ended before the answer.
    #[error("the plugin closed the connection, since it has too many, try again ({0})")]
    Closed(io::Error),
    /// What answers is another program.
    #[error("what answers is no gpu-device-plugin: {0}")]
    Malformed(io::Error),
    /// It took too long.
    #[error("the plugin has not answered within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// The text of an error, without its number where it is a common one.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody listens on the socket".to_owned(),
        io::ErrorKind::WouldBlock => "it has too many connections, try again".to_owned(),
        io::ErrorKind::PermissionDenied => "only root may open the socket".to_owned(),
        _ => error.to_string(),
    }
}

/// Sends a request and waits for its answer, no longer than `patience`.
///
/// # Errors
/// There is no answer.
pub async fn call(path: &Path, request: &Request, patience: Duration) -> Result<Answer, CallError> {
    let call = async {
        let connect = |source| CallError::Connect { path: path.display().to_string(), source };
        let mut stream = UnixStream::connect(path).await.map_err(connect)?;
        // What was refused before it was read has an answer too.
        let sent = protocol::send(&mut stream, request).await;
        let answer = protocol::receive(&mut stream, MAX_ANSWER).await;
        answer.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => CallError::Malformed(error),
            _ => CallError::Closed(sent.err().unwrap_or(error)),
        })
    };
    timeout(patience, call).await.unwrap_or(Err(CallError::TimedOut(patience)))
}
