//! The plugin's status, again whenever it changes: a long poll of the status socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use status::Status;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// The largest status that is read, in bytes: some times that of 8,000 devices.
const MAX_BODY: usize = 16 << 20;
/// The largest head of an answer, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// How long an answer may take: the plugin answers after a minute at the latest.
const DEADLINE: Duration = Duration::from_secs(75);
/// Where a token stands in an answer.
const TOKEN: &str = "status-token";
/// The pause before a plugin that does not answer is asked again, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// The pause between two requests to a plugin that has no stream, and so answers at once.
const WITHOUT_STREAM: Duration = Duration::from_secs(10);
/// How long the plugin may be silent, as when it restarts, before what it said counts as unknown.
const MAX_SILENCE: Duration = Duration::from_secs(60);

/// What is known of the plugin.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Its last status; `None`: there was none yet.
    pub status: Option<Arc<Status>>,
    /// Whether it has not answered for a minute.
    pub silent: bool,
}

/// Follows the plugin at this socket for good, and publishes what is known of it.
pub async fn follow(socket: PathBuf, view: watch::Sender<View>) {
    let mut after = None;
    let mut answered = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut failing: Option<String> = None;
    loop {
        match timeout(DEADLINE, next(&socket, after.as_deref())).await {
            Ok(Ok((status, token))) => {
                if failing.take().is_some() {
                    info!("the plugin answers");
                }
                (answered, pause) = (Instant::now(), FIRST_PAUSE);
                view.send_replace(View { status: Some(Arc::new(status)), silent: false });
                if token.is_none() {
                    sleep(WITHOUT_STREAM).await;
                }
                after = token;
                continue;
            }
            failed => {
                let error = match failed {
                    Ok(Err(error)) => error,
                    _ => format!("no answer within {} s", DEADLINE.as_secs()),
                };
                if failing.as_ref() != Some(&error) {
                    let socket = socket.display();
                    warn!(%socket, %error, "the plugin does not answer, will retry for good");
                    failing = Some(error);
                }
            }
        }
        let silent = answered.elapsed() >= MAX_SILENCE;
        view.send_if_modified(|view| std::mem::replace(&mut view.silent, silent) != silent);
        sleep(pause).await;
        pause = (2 * pause).min(LAST_PAUSE);
    }
}

/// The status, once it has another token than `after`, and its token.
///
/// # Errors
/// The plugin is not there, or answers something else.
pub async fn next(socket: &Path, after: Option<&str>) -> Result<(Status, Option<String>), String> {
    let target = after.map_or("/status".to_owned(), |after| format!("/status?after={after}"));
    let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
    let words = |error: hyper::Error| format!("it does not speak HTTP: {error}");
    let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(words)?;
    // It ends with the answer, or with this.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let request = Request::get(target).header(HOST, "localhost").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(words)?;
    let code = response.status();
    let token = response.headers().get(TOKEN).and_then(|token| token.to_str().ok());
    let token = token.filter(|token| is_token(token)).map(str::to_owned);
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(|error| format!("its answer: {error}"))?.to_bytes();
    if !code.is_success() {
        let start = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        return Err(format!("it answered {code}: {}", status::escaped(start.trim())));
    }
    let status = serde_json::from_slice(&body)
        .map_err(|error| format!("its status cannot be read, is it of this version? {error}"))?;
    Ok((status, token))
}

/// A token goes back as it came, so that it must not change the request.
fn is_token(token: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=128).contains(&token.len()) && token.chars().all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{"schemaVersion": 1, "generatedAt": "2026-01-02T03:04:05Z",
        "plugin": {"version": "0.1.0", "commit": "", "startedAt": "2026-01-02T03:04:05Z",
            "uptimeSeconds": 1, "ready": true, "notReady": []},
        "nvml": {"state": "up", "unansweredCalls": 0}, "gpus": [], "resources": [],
        "holdersKnown": true, "findings": [], "events": [],
        "configuration": {"reloadsApplied": 0, "reloadsRefused": 0}}"#;

    #[tokio::test(start_paused = true)]
    async fn a_plugin_that_is_away_for_a_minute_is_silent_and_its_last_status_stays() {
        let socket = PathBuf::from("/nonexistent/status.sock");
        let status = Some(Arc::new(serde_json::from_str(STATUS).unwrap()));
        let known = View { status, silent: false };
        let (sender, mut view) = watch::channel(known);
        let began = Instant::now();
        tokio::select! {
            () = follow(socket, sender) => {}
            silent = view.wait_for(|view| view.silent) => {
                assert!(silent.unwrap().status.is_some());
                let seconds = began.elapsed().as_secs();
                assert!((60..=70).contains(&seconds), "{seconds}");
            }
        }
    }

    #[test]
    fn a_token_cannot_change_the_request() {
        for token in ["", "a b", "a&b=c", "a\r\nb", "a/../b", &"a".repeat(129)] {
            assert!(!is_token(token), "{token:?}");
        }
        assert!(is_token("18a5-00ff"));
    }
}
