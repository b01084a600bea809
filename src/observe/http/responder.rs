//! Answers requests.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Request, Response, StatusCode};
use status::{Status, escaped, visible_json};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::in_flight::InFlight;
use super::page;
use super::route::{ALLOWED, Refusal, Route, Target, route};
use super::waiters::Waiters;
use crate::observe::metrics;
use crate::observe::status::digest;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// What the server shows.
pub(crate) trait Views: Send + Sync + 'static {
    /// All that the daemon knows, for a reader, who has the kubelet asked again what pods hold.
    fn status(&self) -> Status;

    /// All that the daemon knows, for one who only looks whether it has changed.
    fn peek(&self) -> Status;

    /// Returns when something may have changed after the call of this function.
    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// The metrics in Prometheus's text format.
    fn metrics(&self) -> String;

    /// The part of the process that is stuck, if any. A failed GPU is not.
    fn stuck(&self) -> Pin<Box<dyn Future<Output = Option<String>> + Send + '_>>;

    /// Why the plugin is not ready; empty if it is.
    fn not_ready(&self) -> Vec<String>;
}

/// Answers the requests of all connections.
pub(super) struct Responder {
    views: Arc<dyn Views>,
    /// One answer is rendered at a time.
    rendering: Semaphore,
    in_flight: Arc<InFlight>,
    waiters: Arc<Waiters>,
    /// When it began, which makes a token one of this process.
    began: u128,
}

/// What a status is as of, for clients that wait for the next one.
const TOKEN: HeaderName = HeaderName::from_static("status-token");
/// The longest wait for the next status.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// How long several changes at once have to come together, before a waiting client is answered.
const SETTLING: Duration = Duration::from_millis(100);

impl Responder {
    pub(super) fn new(views: Arc<dyn Views>) -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let (rendering, in_flight) = (Semaphore::new(1), Arc::default());
        Self { views, rendering, in_flight, waiters: Arc::default(), began }
    }

    /// The answers of all connections that are not read yet.
    pub(super) fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }

    /// Those that wait for the next status.
    #[cfg(test)]
    pub(super) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// The answer to a request. One that waits says so through `waiting`; `None`: it may not.
    pub(super) async fn respond(
        &self,
        request: &Request<Incoming>,
        waiting: Option<&watch::Sender<bool>>,
    ) -> Response<Full<Bytes>> {
        let target = Target::new(request.uri().path(), request.uri().query());
        match route(request.method().as_str(), target, waiting.is_some()) {
            // The probes do not wait for answers that are being rendered.
            Ok(Route::Healthz) => probe(self.views.stuck().await.as_slice()),
            Ok(Route::Readyz) => probe(&self.views.not_ready()),
            Ok(Route::Metrics) => {
                let _turn = self.rendering.acquire().await;
                response(StatusCode::OK, metrics::CONTENT_TYPE, exactly(self.views.metrics()))
            }
            Ok(Route::Status) => self.status(waiting.is_some()).await,
            Ok(Route::NextStatus) => {
                if let Some(waiting) = waiting {
                    waiting.send_replace(true);
                }
                let status = self.next_status(target.after.unwrap_or_default()).await;
                if let Some(waiting) = waiting {
                    waiting.send_replace(false);
                }
                status
            }
            Ok(Route::Page) => self.page().await,
            Err(refusal) => refuse(refusal),
        }
    }

    async fn status(&self, with_token: bool) -> Response<Full<Bytes>> {
        let _turn = self.rendering.acquire().await;
        let status = self.views.status();
        let token = with_token.then(|| self.token(&status));
        status_response(&status, token.as_deref())
    }

    /// The status, once it has another token than this one, or after a minute as it is then.
    async fn next_status(&self, after: &str) -> Response<Full<Bytes>> {
        let waiter = self.waiters.begin();
        let end = Instant::now() + MAX_WAIT;
        let mut is_last = false;
        loop {
            // Before the look, so that what changes meanwhile is seen.
            let changed = self.views.changed();
            {
                let _turn = self.rendering.acquire().await;
                let status = self.views.peek();
                let token = self.token(&status);
                if is_last || token != after {
                    return status_response(&status, Some(&token));
                }
            }
            tokio::select! {
                () = changed => sleep(SETTLING).await,
                () = sleep_until(end) => is_last = true,
                () = waiter.displaced() => is_last = true,
            }
        }
    }

    /// The token of a status: no other process has it, and it moves with what [`digest`] compares.
    fn token(&self, status: &Status) -> String {
        format!("{:x}-{:016x}", self.began, digest(status))
    }

    async fn page(&self) -> Response<Full<Bytes>> {
        let _turn = self.rendering.acquire().await;
        let nonce = page::nonce();
        let page = page::page(&self.views.status(), &nonce);
        let mut response = response(StatusCode::OK, HTML, exactly(page));
        if let Ok(policy) = HeaderValue::from_str(&page::policy(&nonce)) {
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        }
        response
    }
}

fn status_response(status: &Status, token: Option<&str>) -> Response<Full<Bytes>> {
    let mut response = match serde_json::to_string(status) {
        // People read it on terminals too.
        Ok(json) => response(StatusCode::OK, JSON, exactly(visible_json(json))),
        Err(error) => {
            return response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n"));
        }
    };
    if let Some(token) = token.and_then(|token| HeaderValue::from_str(token).ok()) {
        response.headers_mut().insert(TOKEN, token);
    }
    response
}

/// A body that may be held for seconds, without the room that it has grown by.
fn exactly(body: impl Into<Vec<u8>>) -> Bytes {
    let mut body = body.into();
    body.shrink_to_fit();
    body.into()
}

/// The answer to a probe, with what is wrong, one problem a line.
fn probe(problems: &[String]) -> Response<Full<Bytes>> {
    let lines: String = problems.iter().map(|problem| escaped(problem) + "\n").collect();
    match problems {
        [] => response(StatusCode::OK, TEXT, "ok\n"),
        _ => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines),
    }
}

fn refuse(refusal: Refusal) -> Response<Full<Bytes>> {
    let (status, why) = match refusal {
        Refusal::WaitsElsewhere => (
            StatusCode::BAD_REQUEST,
            "the next status is waited for on the status socket alone: status.sock in the \
             plugin's --state-dir"
                .to_owned(),
        ),
        Refusal::NotFound => (
            StatusCode::NOT_FOUND,
            "not found; there are /, /metrics, /healthz, /readyz and /status".to_owned(),
        ),
        Refusal::MethodNotAllowed => {
            (StatusCode::METHOD_NOT_ALLOWED, format!("allowed: {ALLOWED}"))
        }
        Refusal::Gone => (
            StatusCode::GONE,
            "nothing can be changed over HTTP; in the plugin's pod or as root on the node, use \
             `gpu-device-plugin release` and `gpu-device-plugin take-up`"
                .to_owned(),
        ),
        Refusal::TargetTooLong => (StatusCode::URI_TOO_LONG, "the path is too long".to_owned()),
    };
    let mut response = response(status, TEXT, why + "\n");
    if refusal == Refusal::MethodNotAllowed {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(ALLOWED));
    }
    response
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
