//! Why a request failed.

use serde::Deserialize;
use status::error_chain::ErrorChain;
use status::{bounded, escaped};

/// The longest message of others that is shown, in bytes.
const MAX_MESSAGE: usize = 512;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// It is not known how to reach an API server.
    #[error("no access to a cluster: {0}")]
    NoAccess(String),
    /// It did not answer, or not to the end.
    #[error("{request}: no answer of the API server: {why}")]
    Unreachable {
        /// The request.
        request: String,
        /// What happened.
        why: String,
    },
    /// It answered with something else than was asked for.
    #[error("{request}: the answer cannot be read: {why}")]
    Unreadable {
        /// The request.
        request: String,
        /// What is wrong with it.
        why: String,
    },
    /// It refused.
    #[error("{request}: HTTP status {code}: {message}")]
    Refused {
        /// The request.
        request: String,
        /// The HTTP status code.
        code: u16,
        /// What it said.
        message: String,
        /// Whether the API server said it, and not somebody behind its proxy.
        by_api_server: bool,
    },
}

/// What the API server says with a refusal.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    kind: String,
    message: String,
}

impl ApiError {
    /// Of an answer with such a code.
    pub(super) fn refused(request: String, code: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<Refusal>(body) {
            Ok(refusal) if refusal.kind == "Status" => Self::Refused {
                request,
                code,
                message: shown(&refusal.message),
                by_api_server: true,
            },
            _ => {
                let message = shown(String::from_utf8_lossy(body).trim());
                Self::Refused { request, code, message, by_api_server: false }
            }
        }
    }

    /// The HTTP status code, of a refusal by the API server.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, by_api_server: true, .. } => Some(*code),
            _ => None,
        }
    }

    /// With the right that is missing, where that is why, and what to do.
    pub(crate) fn without(&self, right: &str) -> String {
        match self.code() {
            Some(401) => format!("{self}; the credentials are not accepted: log in again"),
            Some(403) => format!("{self}; what is missing is the right to {right}"),
            _ => self.to_string(),
        }
    }
}

/// A text of others, bounded and fit for a terminal.
pub(super) fn shown(text: &str) -> String {
    escaped(bounded(text, MAX_MESSAGE)).into_owned()
}

/// An error with what it came from, in such a text.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    shown(&ErrorChain(error).to_string())
}
