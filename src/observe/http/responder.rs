//! Answers requests.

use std::pin::Pin;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Request, Response, StatusCode};
use status::{Status, escaped};
use tokio::sync::Semaphore;

use super::in_flight::InFlight;
use super::page;
use super::route::{ALLOWED, Refusal, Route, route};
use crate::observe::metrics;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// What the server shows.
pub(crate) trait Views: Send + Sync + 'static {
    /// All that the daemon knows.
    fn status(&self) -> Status;

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
}

impl Responder {
    pub(super) fn new(views: Arc<dyn Views>) -> Self {
        Self { views, rendering: Semaphore::new(1), in_flight: Arc::default() }
    }

    /// The answers of all connections that are not read yet.
    pub(super) fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }

    /// The answer to a request.
    pub(super) async fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let uri = request.uri();
        let target_length = uri.path_and_query().map_or(0, |target| target.as_str().len());
        match route(request.method().as_str(), uri.path(), target_length) {
            // The probes do not wait for answers that are being rendered.
            Ok(Route::Healthz) => probe(self.views.stuck().await.as_slice()),
            Ok(Route::Readyz) => probe(&self.views.not_ready()),
            Ok(Route::Metrics) => {
                let _turn = self.rendering.acquire().await;
                response(StatusCode::OK, metrics::CONTENT_TYPE, exactly(self.views.metrics()))
            }
            Ok(Route::Status) => self.status().await,
            Ok(Route::Page) => self.page().await,
            Err(refusal) => refuse(refusal),
        }
    }

    async fn status(&self) -> Response<Full<Bytes>> {
        let _turn = self.rendering.acquire().await;
        match serde_json::to_vec(&self.views.status()) {
            Ok(json) => response(StatusCode::OK, JSON, exactly(json)),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        }
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
