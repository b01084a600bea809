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
    /// The status as JSON, once it is another one than that of a token.
    NextStatus,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 400: the status is waited for where it is not served so.
    WaitsElsewhere,
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

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) path: &'a str,
    /// The token of the query `after`, if it has one.
    pub(super) after: Option<&'a str>,
    /// Bytes, with the query.
    pub(super) length: usize,
}

impl<'a> Target<'a> {
    /// The parts of a target.
    pub(super) fn new(path: &'a str, query: Option<&'a str>) -> Self {
        let after =
            query.and_then(|query| query.split('&').find_map(|of| of.strip_prefix("after=")));
        let length = path.len() + query.map_or(0, |query| query.len() + 1);
        Self { path, after, length }
    }
}

/// The answer to a request of this method; `may_wait`: whether the status is waited for here.
pub(super) fn route(method: &str, target: Target<'_>, may_wait: bool) -> Result<Route, Refusal> {
    if target.length > MAX_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    let route = match target.path {
        "/" => Route::Page,
        "/metrics" => Route::Metrics,
        "/healthz" => Route::Healthz,
        "/readyz" => Route::Readyz,
        "/status" if target.after.is_none() => Route::Status,
        "/status" if may_wait => Route::NextStatus,
        "/status" => return Err(Refusal::WaitsElsewhere),
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

    fn routed(method: &str, target: &str) -> Result<Route, Refusal> {
        let (path, query) = target.split_once('?').map_or((target, None), |(a, b)| (a, Some(b)));
        route(method, Target::new(path, query), true)
    }

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
            assert_eq!(routed(method, path), expected, "{method} {path}");
        }
        let long = format!("/metrics?{}", "a".repeat(2040));
        assert_eq!(routed("GET", &long), Err(Refusal::TargetTooLong));
    }

    #[test]
    fn the_status_is_waited_for_on_its_socket_alone() {
        for (target, after) in [
            ("/status?after=1-2", Some("1-2")),
            ("/status?a=b&after=&after=3", Some("")),
            ("/status?before=1", None),
            ("/status", None),
        ] {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let target = Target::new(path, Some(query).filter(|query| !query.is_empty()));
            assert_eq!(target.after, after);
            let expected = if after.is_some() { Route::NextStatus } else { Route::Status };
            assert_eq!(route("GET", target, true), Ok(expected));
            let expected = after.map_or(Ok(Route::Status), |_| Err(Refusal::WaitsElsewhere));
            assert_eq!(route("HEAD", target, false), expected);
        }
    }

    #[test]
    fn no_method_of_any_path_changes_anything() {
        for method in ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "get", "LET-GO"] {
            for path in ["/", "/metrics", "/healthz", "/readyz", "/status"] {
                assert_eq!(routed(method, path), Err(Refusal::MethodNotAllowed));
            }
        }
        for (method, path) in [("POST", "/release"), ("POST", "/let-go"), ("GET", "/let-go")] {
            assert_eq!(routed(method, path), Err(Refusal::Gone));
        }
    }
}
