//! gRPC errors in the words of Go, for the texts in which the kubelet quotes them.

use tonic::{Code, Status};

/// The text that Go prints for a gRPC error.
#[must_use]
pub fn go_error(status: &Status) -> String {
    let code = match status.code() {
        Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    };
    format!("rpc error: code = {code} desc = {}", status.message())
}
