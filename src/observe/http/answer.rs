//! The answer to a request.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Request, Response, StatusCode};
use tracing::info;

use super::page::{self, Nonce};
use super::route::{Asked, Peer, Refusal, Route, route};
use super::{Shared, page::page};
use crate::observe::metrics;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// Browsers send it with every request that a page causes (w3.org/TR/fetch-metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The answer to a request from `peer`.
pub(super) async fn answer(
    request: &Request<Incoming>,
    peer: Peer,
    shared: &Shared,
) -> Response<Full<Bytes>> {
    let uri = request.uri();
    let headers = request.headers();
    let asked = Asked {
        method: request.method().as_str(),
        path: uri.path(),
        target_length: uri.path_and_query().map_or(0, |target| target.as_str().len()),
        peer,
        from_page: headers.contains_key(ORIGIN) || headers.contains_key(SEC_FETCH_SITE),
    };
    match route(asked) {
        Ok(route) => show(route, shared).await,
        Err(refusal) => refuse(refusal),
    }
}

async fn show(route: Route, shared: &Shared) -> Response<Full<Bytes>> {
    let views = &shared.views;
    // The probes wait for nobody.
    match route {
        Route::Healthz => {
            return match views.stuck().await {
                None => respond(StatusCode::OK, TEXT, "ok\n"),
                Some(what) => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{what}\n")),
            };
        }
        Route::Readyz => {
            let lines: String =
                views.not_ready().iter().map(|reason| format!("{reason}\n")).collect();
            return match lines.is_empty() {
                true => respond(StatusCode::OK, TEXT, "ok\n"),
                false => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines),
            };
        }
        Route::Release => {
            info!("asked over HTTP to let go of NVML, or to take it up again");
            views.release();
            return respond(StatusCode::ACCEPTED, TEXT, "asked\n");
        }
        Route::Page | Route::Metrics | Route::Status => {}
    }
    let _turn = shared.making.acquire().await;
    match route {
        Route::Metrics => respond(StatusCode::OK, metrics::CONTENT_TYPE, views.metrics()),
        Route::Status => match serde_json::to_vec(&views.status()) {
            Ok(json) => respond(StatusCode::OK, JSON, json),
            Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        },
        _ => {
            let nonce = Nonce::random();
            let mut response = respond(StatusCode::OK, HTML, page(&views.status(), &nonce));
            if let Ok(policy) = HeaderValue::from_str(&page::policy(&nonce)) {
                response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
            }
            response
        }
    }
}

fn refuse(refusal: Refusal) -> Response<Full<Bytes>> {
    match refusal {
        Refusal::NotFound => respond(
            StatusCode::NOT_FOUND,
            TEXT,
            "not found; there are /, /metrics, /healthz, /readyz and /status\n",
        ),
        Refusal::MethodNotAllowed(allowed) => {
            let mut response =
                respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("allowed: {allowed}\n"));
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            response
        }
        Refusal::TargetTooLong => respond(StatusCode::URI_TOO_LONG, TEXT, "the path is too long\n"),
        Refusal::Forbidden(why) => respond(StatusCode::FORBIDDEN, TEXT, format!("{why}\n")),
    }
}

fn respond(
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
