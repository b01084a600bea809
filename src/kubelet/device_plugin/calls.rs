//! How long the gRPC calls between the kubelet and the plugin take.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tonic::{Code, Status};

use crate::util::counters::{Distribution, Histogram};

/// Upper bounds of the duration of a call.
const BOUNDS: &[Duration] = &[
    Duration::from_micros(50),
    Duration::from_micros(250),
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
];
/// gRPC's own names of the codes 0 to 16, as its libraries write them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// A unary call between the kubelet and the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// From the plugin to the kubelet, until it answers; it dials back meanwhile.
    Register,
    /// From the kubelet: the time in the plugin, without the transport.
    GetDevicePluginOptions,
    /// As [`Self::GetDevicePluginOptions`].
    GetPreferredAllocation,
    /// As [`Self::GetDevicePluginOptions`].
    Allocate,
}

/// All methods with their names in the protocol.
const METHODS: [(Method, &str); 4] = [
    (Method::Register, "Register"),
    (Method::GetDevicePluginOptions, "GetDevicePluginOptions"),
    (Method::GetPreferredAllocation, "GetPreferredAllocation"),
    (Method::Allocate, "Allocate"),
];

/// Durations of calls, by method and code. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct CallDurations(Arc<[[OnceLock<Histogram>; CODES.len()]; METHODS.len()]>);

impl CallDurations {
    /// The durations of each method and code that occurred, and of the code OK always.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, &'static str, Distribution)> {
        let mut all = Vec::new();
        for (method, name) in METHODS {
            for (code, code_name) in CODES.into_iter().enumerate() {
                let distribution = match self.0[method as usize][code].get() {
                    Some(histogram) => histogram.distribution(),
                    None if code == Code::Ok as usize => Histogram::new(BOUNDS).distribution(),
                    None => continue,
                };
                all.push((name, code_name, distribution));
            }
        }
        all
    }

    /// Answers a call and counts how long that took.
    pub(super) fn time<T>(
        &self,
        method: Method,
        answer: impl FnOnce() -> Result<T, Status>,
    ) -> Result<T, Status> {
        let began = Instant::now();
        let answer = answer();
        let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        self.observe(method, code, began.elapsed());
        answer
    }

    pub(super) fn observe(&self, method: Method, code: Code, took: Duration) {
        let histogram = &self.0[method as usize][code as usize];
        histogram.get_or_init(|| Histogram::new(BOUNDS)).observe(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_under_its_method_and_code() {
        let calls = CallDurations::default();
        assert!(calls.time(Method::Allocate, || Ok(())).is_ok());
        assert!(
            calls.time(Method::Allocate, || Err::<(), _>(Status::invalid_argument("no"))).is_err()
        );
        let all = calls.all();
        let seen: Vec<_> = all
            .iter()
            .filter(|(.., seen)| seen.count > 0)
            .map(|(method, code, _)| (*method, *code))
            .collect();
        assert_eq!(seen, [("Allocate", "OK"), ("Allocate", "InvalidArgument")]);
        assert_eq!(all.len(), METHODS.len() + 1, "OK is there from the start");
    }
}
