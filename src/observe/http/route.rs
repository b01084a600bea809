//! Which request gets which answer. Pure.

/// Most bytes of a request's target: ours are short.
const LONGEST_TARGET: usize = 2048;

/// What is answered.
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
    /// NVML is let go.
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

/// From where a request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// From our own host, or our own pod: a unix socket or the loopback address.
    Here,
    /// From anywhere else.
    Elsewhere,
}

/// The parts of a request that decide.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
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
pub(super) fn route(asked: Asked<'_>) -> Result<Route, Refusal> {
    if asked.target_length > LONGEST_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    let route = match asked.path {
        "/" => Route::Page,
        "/metrics" => Route::Metrics,
        "/healthz" => Route::Healthz,
        "/readyz" => Route::Readyz,
        "/status" => Route::Status,
        // The name that it had first.
        "/release" | "/let-go" => Route::Release,
        _ => return Err(Refusal::NotFound),
    };
    match (route, asked.method) {
        (Route::Release, "POST") if asked.peer == Peer::Elsewhere => Err(Refusal::Forbidden(
            "only from this host: over the loopback address or the unix socket",
        )),
        // A page from elsewhere can make a browser on this host send a request.
        (Route::Release, "POST") if asked.from_page => {
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

    fn asked<'a>(method: &'a str, path: &'a str) -> Asked<'a> {
        Asked { method, path, target_length: path.len(), peer: Peer::Elsewhere, from_page: false }
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
            assert_eq!(route(asked(method, path)), expected, "{method} {path}");
        }
        let long = Asked { target_length: 2049, ..asked("GET", "/metrics") };
        assert_eq!(route(long), Err(Refusal::TargetTooLong));
    }

    #[test]
    fn nvml_is_let_go_only_for_somebody_on_this_host_who_is_no_page() {
        let here = Asked { peer: Peer::Here, ..asked("POST", "/let-go") };
        assert_eq!(route(here), Ok(Route::Release));
        assert!(matches!(route(Asked { from_page: true, ..here }), Err(Refusal::Forbidden(_))));
        assert!(matches!(route(asked("POST", "/let-go")), Err(Refusal::Forbidden(_))));
    }
}
