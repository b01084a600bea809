//! Which request gets which answer. Pure.

/// The longest target of a request, in bytes: ours are short.
const MAX_TARGET: usize = 2048;

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// The page for people.
    Page,
    /// The text that Prometheus gets.
    Metrics,
    /// Whether the process is alive.
    Healthz,
    /// Whether the plugin is ready.
    Readyz,
    /// The status as JSON.
    Status,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 410: what changes something is not asked for over HTTP any more.
    Gone,
    /// 414.
    TargetTooLong,
}

/// The methods that are allowed.
pub(super) const ALLOWED: &str = "GET, HEAD";

/// The answer to a request of this method for a path, which has so many bytes with its query.
pub(super) fn route(method: &str, path: &str, target_length: usize) -> Result<Route, Refusal> {
    if target_length > MAX_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    let route = match path {
        "/" => Route::Page,
        "/metrics" => Route::Metrics,
        "/healthz" => Route::Healthz,
        "/readyz" => Route::Readyz,
        "/status" => Route::Status,
        "/release" | "/let-go" => return Err(Refusal::Gone),
        _ => return Err(Refusal::NotFound),
    };
    match method {
        "GET" | "HEAD" => Ok(route),
        _ => Err(Refusal::MethodNotAllowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_its_answer() {
        let table = [
            ("GET", "/", Ok(Route::Page)),
            ("HEAD", "/metrics", Ok(Route::Metrics)),
            ("GET", "/healthz", Ok(Route::Healthz)),
            ("GET", "/readyz", Ok(Route::Readyz)),
            ("GET", "/status", Ok(Route::Status)),
            ("GET", "/status/", Err(Refusal::NotFound)),
            ("GET", "//", Err(Refusal::NotFound)),
            ("GET", "*", Err(Refusal::NotFound)),
            ("POST", "/metrics", Err(Refusal::MethodNotAllowed)),
            ("OPTIONS", "/", Err(Refusal::MethodNotAllowed)),
        ];
        for (method, path, expected) in table {
            assert_eq!(route(method, path, path.len()), expected, "{method} {path}");
        }
        assert_eq!(route("GET", "/metrics", 2049), Err(Refusal::TargetTooLong));
    }

    #[test]
    fn no_method_of_any_path_changes_anything() {
        for method in ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "get", "LET-GO"] {
            for path in ["/", "/metrics", "/healthz", "/readyz", "/status"] {
                assert_eq!(route(method, path, path.len()), Err(Refusal::MethodNotAllowed));
            }
        }
        for (method, path) in [("POST", "/release"), ("POST", "/let-go"), ("GET", "/let-go")] {
            assert_eq!(route(method, path, path.len()), Err(Refusal::Gone));
        }
    }
}
