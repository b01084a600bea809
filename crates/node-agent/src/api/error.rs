//! Why a request failed.

use std::time::Duration;

use serde_json::Value;
use status::{bounded, escaped};

/// The longest message of the API server that is kept, in bytes.
const MAX_MESSAGE: usize = 512;
/// The longest wait that it may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// It is not known how to reach an API server.
    #[error("no access to the Kubernetes API: {0}")]
    NoAccess(String),
    /// It did not answer.
    #[error("{request}: the API server is not reached: {why}")]
    Unreachable {
        /// The request.
        request: String,
        /// What happened.
        why: String,
    },
    /// It refused.
    #[error("{request}: the API server answered {code} {reason}: {message}")]
    Refused {
        /// The request.
        request: String,
        /// The HTTP status code.
        code: u16,
        /// Its word for it, such as `Conflict` or `Forbidden`.
        reason: String,
        /// What it said.
        message: String,
        /// The fields that others own, of a conflict of server-side apply.
        conflicts: Vec<FieldConflict>,
        /// For how long it does not want to be asked again.
        retry_after: Option<Duration>,
    },
}

/// A field that somebody else owns and that has another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldConflict {
    /// The field, such as `.metadata.labels.nvidia.com/gpu.count`.
    pub field: String,
    /// Who owns it, in the API server's words.
    pub owner: String,
}

impl ApiError {
    pub(super) fn refused(
        request: String,
        code: u16,
        retry_after: Option<Duration>,
        body: &[u8],
    ) -> Self {
        let status: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let text = |key: &str| status[key].as_str().unwrap_or_default();
        let causes = status["details"]["causes"].as_array().into_iter().flatten();
        let conflict = |cause: &Value| {
            let is_of_manager = cause["reason"] == "FieldManagerConflict";
            let (field, owner) = (cause["field"].as_str()?, cause["message"].as_str()?);
            is_of_manager.then(|| FieldConflict { field: field.to_owned(), owner: shown(owner) })
        };
        Self::Refused {
            request,
            code,
            reason: shown(text("reason")),
            message: shown(text("message")),
            conflicts: causes.filter_map(conflict).collect(),
            retry_after: retry_after.map(|after| after.min(MAX_RETRY_AFTER)),
        }
    }

    /// The HTTP status code, of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// For how long the API server does not want to be asked again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The fields that others own.
    #[must_use]
    pub fn conflicts(&self) -> &[FieldConflict] {
        match self {
            Self::Refused { conflicts, .. } => conflicts,
            _ => &[],
        }
    }
}

/// A text of the API server, bounded and fit for a log line.
fn shown(text: &str) -> String {
    escaped(bounded(text, MAX_MESSAGE)).into_owned()
}
