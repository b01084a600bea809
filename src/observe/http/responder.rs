//! Answers requests.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tracing::info;

use super::page;
use super::route::{Peer, Refusal, RequestParts, Route, route};
use super::views::Views;
use crate::observe::metrics;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// Browsers send it with every request that a page causes (w3.org/TR/fetch-metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

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
            Ok(Route::Healthz) => self.healthz().await,
            Ok(Route::Readyz) => self.readyz(),
            Ok(Route::Release) => self.release(),
            Ok(Route::Metrics) => self.metrics().await,
            Ok(Route::Status) => self.status().await,
            Ok(Route::Page) => self.page().await,
            Err(refusal) => refuse(refusal),
        }
    }

    /// The probes do not wait for answers that are being rendered.
    async fn healthz(&self) -> Response<Full<Bytes>> {
        match self.views.stuck().await {
            None => response(StatusCode::OK, TEXT, "ok\n"),
            Some(what) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{what}\n")),
        }
    }

    fn readyz(&self) -> Response<Full<Bytes>> {
        let reasons = self.views.not_ready();
        if reasons.is_empty() {
            return response(StatusCode::OK, TEXT, "ok\n");
        }
        let lines: String = reasons.iter().map(|reason| format!("{reason}\n")).collect();
        response(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines)
    }

    fn release(&self) -> Response<Full<Bytes>> {
        info!("a request over HTTP to release NVML, or to initialise it again");
        self.views.release();
        response(StatusCode::ACCEPTED, TEXT, "accepted\n")
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let _turn = self.rendering.acquire().await;
        response(StatusCode::OK, metrics::CONTENT_TYPE, self.views.metrics())
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
    match refusal {
        Refusal::NotFound => response(
            StatusCode::NOT_FOUND,
            TEXT,
            "not found; there are /, /metrics, /healthz, /readyz and /status\n",
        ),
        Refusal::MethodNotAllowed(allowed) => {
            let mut response =
                response(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("allowed: {allowed}\n"));
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            response
        }
        Refusal::TargetTooLong => {
            response(StatusCode::URI_TOO_LONG, TEXT, "the path is too long\n")
        }
        Refusal::Forbidden(why) => response(StatusCode::FORBIDDEN, TEXT, format!("{why}\n")),
    }
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
