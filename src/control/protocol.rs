//! Requests and answers, each a line of JSON.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

/// The longest request, in bytes, with the end of its line.
pub(super) const MAX_REQUEST: u64 = 4096;
/// The longest answer that a client reads, in bytes.
pub(super) const MAX_ANSWER: u64 = 1 << 20;

/// What is to be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// A person says that a GPU is repaired.
    Clear {
        /// Its UUID, PCI bus id or index.
        gpu: String,
        /// The kind of the causes that are over; without it all are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
    },
    /// NVML is released for a time, so that a GPU can be reset.
    Release {
        /// For how many seconds; without it, for as long as is configured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
    /// NVML is initialised again, before that time is over.
    TakeUp {},
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// A person's word was taken.
    Cleared {
        /// The UUID of the GPU.
        gpu: String,
        /// The causes that were taken back, in words.
        causes: Vec<String>,
        /// Whether the GPU is forgotten with them, since NVML does not list it. Otherwise clean
        /// polls have to confirm the repair.
        forgotten: bool,
    },
    /// NVML is shut down: no process of the plugin has a GPU open.
    Released {
        /// For how many seconds more.
        seconds: u64,
    },
    /// NVML is in use.
    TakenUp {},
    /// Nothing was changed.
    Refused {
        /// Why.
        reason: String,
    },
    /// An answer that a newer plugin has and this program does not know.
    #[serde(other, skip_serializing)]
    Other,
}

/// Reads a message of at most `most` bytes; one without an end of its line ends with the stream.
pub(super) async fn receive<T: DeserializeOwned>(
    stream: impl AsyncRead + Unpin,
    most: u64,
) -> io::Result<T> {
    let mut line = Vec::new();
    BufReader::new(stream.take(most)).read_until(b'\n', &mut line).await?;
    let is_cut = line.len() as u64 >= most && line.last() != Some(&b'\n');
    if is_cut {
        return Err(io::Error::other(format!("it is longer than {most} bytes")));
    }
    Ok(serde_json::from_slice(&line)?)
}

/// Writes a message.
pub(super) async fn send<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &str) -> Result<Request, String> {
        receive(text.as_bytes(), MAX_REQUEST).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_request_is_a_line_or_all_that_is_sent() {
        let clear = |cause: Option<&str>| {
            Ok(Request::Clear { gpu: "0".to_owned(), cause: cause.map(str::to_owned) })
        };
        assert_eq!(read("{\"verb\":\"clear\",\"gpu\":\"0\"}\nmore").await, clear(None));
        let with_cause = "{\"cause\":\"xid\",\"verb\":\"clear\",\"gpu\":\"0\"}";
        assert_eq!(read(with_cause).await, clear(Some("xid")));
    }

    #[tokio::test]
    async fn the_verbs_about_nvml_have_few_words() {
        let release = |seconds| Ok(Request::Release { seconds });
        assert_eq!(read("{\"verb\":\"release\"}").await, release(None));
        assert_eq!(read("{\"verb\":\"release\",\"seconds\":30}").await, release(Some(30)));
        assert_eq!(read("{\"verb\":\"take-up\"}").await, Ok(Request::TakeUp {}));
    }

    #[tokio::test]
    async fn an_answer_of_a_newer_plugin_is_one() {
        for (text, expected) in [
            ("{\"answer\":\"taken-up\",\"new\":1}", Answer::TakenUp {}),
            ("{\"answer\":\"postponed\",\"seconds\":5}", Answer::Other),
        ] {
            let answer: io::Result<Answer> = receive(text.as_bytes(), MAX_ANSWER).await;
            assert_eq!(answer.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn what_is_no_request_is_told_why() {
        let long = format!("{{\"verb\":\"clear\",\"gpu\":\"{}\"}}", "x".repeat(5000));
        for (text, why) in [
            ("", "EOF"),
            ("GET / HTTP/1.1\r\n\r\n", "expected value"),
            ("{\"verb\":\"reboot\"}", "unknown variant `reboot`, expected one of `clear`"),
            ("{\"verb\":\"release\",\"seconds\":-1}", "invalid value"),
            ("{\"verb\":\"take-up\",\"gpu\":\"0\"}", "unknown field `gpu`"),
            ("{\"verb\":\"clear\"}", "missing field `gpu`"),
            ("{\"verb\":\"clear\",\"gpu\":\"0\",\"force\":true}", "unknown field `force`"),
            (&long, "longer than 4096 bytes"),
        ] {
            let error = read(text).await.unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
