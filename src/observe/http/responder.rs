//! Answers requests.

use std::pin::Pin;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Request, Response, StatusCode};
use status::{Status, escaped};
use tokio::sync::Semaphore;
use tracing::info;

use super::page;
use super::route::{Peer, Refusal, RequestParts, Route, route};
use crate::observe::metrics;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// Browsers send it with every request that a page causes (w3.org/TR/fetch-metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What the server shows, and the one thing that clients can make it do.
pub(crate) trait Views: Send + Sync + 'static {
    /// All that the daemon knows.
    fn status(&self) -> Status;

    /// The metrics in Prometheus's text format.
    fn metrics(&self) -> String;

    /// The part of the process that is stuck, if any. A failed GPU is not.
    fn stuck(&self) -> Pin<Box<dyn Future<Output = Option<String>> + Send + '_>>;

    /// Why the plugin is not ready; empty if it is.
    fn not_ready(&self) -> Vec<String>;

    /// Releases NVML for a while; while it is released, initialises it again early.
    fn release(&self);
}

/// Answers the requests of all connections.
pub(super) struct Responder {
    views: Arc<dyn Views>,
    /// One answer is rendered at a time.
    rendering: Semaphore,
}

impl Responder {
    pub(super) fn new(views: Arc<dyn Views>) -> Self {
        Self { views, rendering: Semaphore::new(1) }
    }

    /// The answer to a request from `peer`.
    pub(super) async fn respond(
        &self,
        request: &Request<Incoming>,
        peer: Peer,
    ) -> Response<Full<Bytes>> {
        match route(parts(request, peer)) {
            // The probes do not wait for answers that are being rendered.
            Ok(Route::Healthz) => probe(self.views.stuck().await.as_slice()),
            Ok(Route::Readyz) => probe(&self.views.not_ready()),
            Ok(Route::Release) => {
                info!("a request over HTTP to release NVML, or to initialise it again");
                self.views.release();
                response(StatusCode::ACCEPTED, TEXT, "accepted\n")
            }
            Ok(Route::Metrics) => {
                let _turn = self.rendering.acquire().await;
                response(StatusCode::OK, metrics::CONTENT_TYPE, self.views.metrics())
            }
            Ok(Route::Status) => self.status().await,
            Ok(Route::Page) => self.page().await,
            Err(refusal) => refuse(refusal),
        }
    }

    async fn status(&self) -> Response<Full<Bytes>> {
        let _turn = self.rendering.acquire().await;
        match serde_json::to_vec(&self.views.status()) {
            Ok(json) => response(StatusCode::OK, JSON, json),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        }
    }

    async fn page(&self) -> Response<Full<Bytes>> {
        let _turn = self.rendering.acquire().await;
        let nonce = page::nonce();
        let mut response = response(StatusCode::OK, HTML, page::page(&self.views.status(), &nonce));
        if let Ok(policy) = HeaderValue::from_str(&page::policy(&nonce)) {
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        }
        response
    }
}

/// The answer to a probe, with what is wrong, one problem a line.
fn probe(problems: &[String]) -> Response<Full<Bytes>> {
    let lines: String = problems.iter().map(|problem| escaped(problem) + "\n").collect();
    match problems {
        [] => response(StatusCode::OK, TEXT, "ok\n"),
        _ => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines),
    }
}

fn parts(request: &Request<Incoming>, peer: Peer) -> RequestParts<'_> {
    let (uri, headers) = (request.uri(), request.headers());
    RequestParts {
        method: request.method().as_str(),
        path: uri.path(),
        target_length: uri.path_and_query().map_or(0, |target| target.as_str().len()),
        peer,
        from_page: headers.contains_key(ORIGIN) || headers.contains_key(SEC_FETCH_SITE),
    }
}

fn refuse(refusal: Refusal) -> Response<Full<Bytes>> {
    let (status, why) = match refusal {
        Refusal::NotFound => (
            StatusCode::NOT_FOUND,
            "not found; there are /, /metrics, /healthz, /readyz and /status".to_owned(),
        ),
        Refusal::MethodNotAllowed(allowed) => {
            (StatusCode::METHOD_NOT_ALLOWED, format!("allowed: {allowed}"))
        }
        Refusal::TargetTooLong => (StatusCode::URI_TOO_LONG, "the path is too long".to_owned()),
        Refusal::Forbidden(why) => (StatusCode::FORBIDDEN, why.to_owned()),
    };
    let mut response = response(status, TEXT, why + "\n");
    if let Refusal::MethodNotAllowed(allowed) = refusal {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
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
