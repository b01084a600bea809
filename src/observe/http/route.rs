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
    /// NVML is released.
    Release,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 404.
    NotFound,
    /// 405, with the methods that are allowed.
    MethodNotAllowed(&'static str),
    /// 414.
    TargetTooLong,
    /// 403, with the reason.
    Forbidden(&'static str),
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// From our own host, or our own pod: a unix socket or the loopback address.
    Local,
    /// From anywhere else.
    Remote,
}

/// The parts of a request that decide on its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestParts<'a> {
    pub(super) method: &'a str,
    /// The path, without the query.
    pub(super) path: &'a str,
    /// How long path and query are.
    pub(super) target_length: usize,
    pub(super) peer: Peer,
    /// Whether a browser sends it on behalf of a page.
    pub(super) from_page: bool,
}

/// The answer to a request.
pub(super) fn route(request: RequestParts<'_>) -> Result<Route, Refusal> {
    if request.target_length > MAX_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    let route = match request.path {
        "/" => Route::Page,
        "/metrics" => Route::Metrics,
        "/healthz" => Route::Healthz,
        "/readyz" => Route::Readyz,
        "/status" => Route::Status,
        // The earlier name is still accepted.
        "/release" | "/let-go" => Route::Release,
        _ => return Err(Refusal::NotFound),
    };
    match (route, request.method) {
        (Route::Release, "POST") if request.peer == Peer::Remote => Err(Refusal::Forbidden(
            "only from this host: over the loopback address or the unix socket",
        )),
        // A page from another site can make a browser on this host send a request.
        (Route::Release, "POST") if request.from_page => {
            Err(Refusal::Forbidden("not from a page in a browser"))
        }
        (Route::Release, "POST") => Ok(route),
        (Route::Release, _) => Err(Refusal::MethodNotAllowed("POST")),
        (_, "GET" | "HEAD") => Ok(route),
        _ => Err(Refusal::MethodNotAllowed("GET, HEAD")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(method: &'a str, path: &'a str) -> RequestParts<'a> {
        RequestParts {
            method,
            path,
            target_length: path.len(),
            peer: Peer::Remote,
            from_page: false,
        }
    }

    #[test]
    fn each_request_has_its_answer() {
        let get = "GET, HEAD";
        let table = [
            ("GET", "/", Ok(Route::Page)),
            ("HEAD", "/metrics", Ok(Route::Metrics)),
            ("GET", "/healthz", Ok(Route::Healthz)),
            ("GET", "/readyz", Ok(Route::Readyz)),
            ("GET", "/status", Ok(Route::Status)),
            ("GET", "/status/", Err(Refusal::NotFound)),
            ("GET", "//", Err(Refusal::NotFound)),
            ("GET", "*", Err(Refusal::NotFound)),
            ("POST", "/metrics", Err(Refusal::MethodNotAllowed(get))),
            ("OPTIONS", "/", Err(Refusal::MethodNotAllowed(get))),
            ("GET", "/let-go", Err(Refusal::MethodNotAllowed("POST"))),
        ];
        for (method, path, expected) in table {
            assert_eq!(route(request(method, path)), expected, "{method} {path}");
        }
        let long = RequestParts { target_length: 2049, ..request("GET", "/metrics") };
        assert_eq!(route(long), Err(Refusal::TargetTooLong));
    }

    #[test]
    fn nvml_is_released_only_for_a_program_on_this_host() {
        let local = RequestParts { peer: Peer::Local, ..request("POST", "/let-go") };
        assert_eq!(route(local), Ok(Route::Release));
        assert!(matches!(
            route(RequestParts { from_page: true, ..local }),
            Err(Refusal::Forbidden(_))
        ));
        assert!(matches!(route(request("POST", "/let-go")), Err(Refusal::Forbidden(_))));
    }
}
