//! The events of a watch, one JSON object a line, as the API server sends them.

use std::time::Duration;

use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;
use tokio::time::timeout;

use super::error::ApiError;

/// The longest line, in bytes: the metadata of one object, some times over.
const MAX_LINE: usize = 4 << 20;
/// For how long the API server is asked to watch, in seconds. A connection that is dead without a
/// word costs no more than that.
pub(super) const SECONDS: u64 = 240;
/// The longest silence: it ends the watch by itself before that.
const SILENCE: Duration = Duration::from_secs(SECONDS + 30);

/// A watch that was begun.
pub struct WatchEvents {
    request: String,
    body: Body,
    /// What came of a line that has not ended.
    buffer: Vec<u8>,
    /// How much of it was looked through.
    searched: usize,
}

impl WatchEvents {
    pub(super) fn new(request: String, body: Body) -> Self {
        Self { request, body, buffer: Vec::new(), searched: 0 }
    }

    /// The next event; `None`: the watch has ended, as it does after some minutes.
    ///
    /// # Errors
    /// The connection is lost, or something else than an event comes.
    pub async fn next(&mut self) -> Result<Option<Value>, ApiError> {
        loop {
            if let Some(line) = self.line() {
                let event = serde_json::from_slice(&line);
                return event.map(Some).map_err(|error| self.unreachable(error.to_string()));
            }
            if self.buffer.len() > MAX_LINE {
                return Err(self.unreachable(format!("an event of more than {MAX_LINE} bytes")));
            }
            let frame = match timeout(SILENCE, self.body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(self.unreachable(error.to_string())),
                Err(_) => {
                    let seconds = SILENCE.as_secs();
                    return Err(self.unreachable(format!("nothing came within {seconds} s")));
                }
            };
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// What an event of the type ERROR says, as a refusal.
    #[must_use]
    pub fn refused(&self, status: &Value) -> ApiError {
        let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok());
        let body = status.to_string().into_bytes();
        ApiError::refused(self.request.clone(), code.unwrap_or(500), None, &body)
    }

    /// Takes the first line, if it has ended.
    fn line(&mut self) -> Option<Vec<u8>> {
        let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let rest = self.buffer.split_off(self.searched + end + 1);
        self.searched = 0;
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    fn unreachable(&self, why: String) -> ApiError {
        ApiError::Unreachable { request: self.request.clone(), why }
    }
}
