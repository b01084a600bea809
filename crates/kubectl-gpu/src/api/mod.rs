//! Requests to the API server. Access to it is kube's: kubeconfig, credential plugins, TLS.

mod access;
mod error;
mod read;
mod table;

use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::time::Duration;

use hyper::header::{ACCEPT, ACCEPT_ENCODING, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};

use crate::args::AccessFlags;
pub(crate) use error::ApiError;
use read::{Allowance, within};
pub(crate) use table::{Column, ObjectMeta, Table, TableRow};

/// How long a connection may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How often a request is sent again that was refused for now (429), and the longest wait for it.
const MAX_RETRIES: usize = 3;
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);
/// The largest refusal that is read, in bytes.
const MAX_REFUSAL: u64 = 64 << 10;
/// The largest event of a watch, in bytes: etcd takes objects of 1.5 MiB.
const MAX_EVENT: u64 = 4 << 20;
/// For how long the API server is asked to watch, in seconds. A connection that is dead without a
/// word costs no more than that.
const WATCH_SECONDS: u64 = 240;
/// The longest silence of a watch: it ends by itself before that.
const WATCH_SILENCE: Duration = Duration::from_secs(WATCH_SECONDS + 30);
const AGENT: &str = concat!("kubectl-gpu/", env!("CARGO_PKG_VERSION"));
const AS_TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";

/// One request: it reads, as all of this program's do.
#[derive(Debug, Clone)]
pub(crate) struct ApiRequest {
    path: String,
    query: Vec<(&'static str, String)>,
    accept: &'static str,
}

impl ApiRequest {
    /// Reads what is at this path.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { path: path.into(), query: Vec::new(), accept: "application/json" }
    }

    /// Reads it as a table, as `kubectl get` does: of each object the columns and the metadata.
    pub(crate) fn table(self) -> Self {
        Self { accept: AS_TABLE, ..self }
    }

    /// With a parameter, unless it is empty.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.query.push((name, value));
        }
        self
    }

    /// That the answer is not what was asked for.
    pub(crate) fn unreadable(&self, why: String) -> ApiError {
        ApiError::Unreadable { request: self.name(), why: error::shown(&why) }
    }

    /// That the API server refuses within its answer.
    pub(crate) fn refused(&self, code: u16, message: &str) -> ApiError {
        let (request, message) = (self.name(), error::shown(message));
        ApiError::Refused { request, code, message, by_api_server: true }
    }

    fn uri(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.query);
        let query = query.finish();
        if query.is_empty() { self.path.clone() } else { format!("{}?{query}", self.path) }
    }

    /// The request in words, without its query.
    fn name(&self) -> String {
        format!("GET {}", self.path)
    }
}

/// An event of a watch.
#[derive(Debug, Deserialize)]
pub(crate) struct WatchEvent {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) object: Table,
}

/// The API server.
pub(crate) struct ApiServer {
    client: Client,
    runtime: Runtime,
    /// How long an answer may take, and a silence in it; zero: for good.
    timeout: Duration,
}

impl ApiServer {
    /// The one that the flags name, and the files that $KUBECONFIG names.
    pub(crate) fn new(flags: &AccessFlags, files: &[PathBuf]) -> Result<Self, ApiError> {
        let no_access = |why: String| ApiError::NoAccess(error::shown(&why));
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| no_access(error.to_string()))?;
        let config = runtime.block_on(access::config(flags, files));
        let mut config = config.map_err(no_access)?;
        config.connect_timeout = Some(CONNECT_DEADLINE);
        config.default_retry = false;
        let client = {
            let _entered = runtime.enter();
            Client::try_from(config).map_err(|error| no_access(error::chain(&error)))?
        };
        Ok(Self { client, runtime, timeout: flags.request_timeout })
    }

    /// Reads an object of at most so many bytes, which are not kept.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        request: &ApiRequest,
        limit: u64,
    ) -> Result<T, ApiError> {
        let reader = self.text(self.open(request)?, limit);
        let read = serde_json::from_reader(BufReader::with_capacity(64 << 10, reader));
        read.map_err(|error| unread(request, &error))
    }

    /// Reads a text of at most so many bytes.
    pub(crate) fn read_text(&self, request: &ApiRequest, limit: u64) -> Result<String, ApiError> {
        let mut text = String::new();
        let read = self.text(self.open(request)?, limit).read_to_string(&mut text);
        let why = |error: std::io::Error| ApiError::Unreachable {
            request: request.name(),
            why: error.to_string(),
        };
        read.map(|_| text).map_err(why)
    }

    /// Watches what is at this path. The events end when the watch does.
    pub(crate) fn watch(
        &self,
        request: ApiRequest,
    ) -> Result<impl Iterator<Item = Result<WatchEvent, ApiError>>, ApiError> {
        let request = request
            .with("watch", "true")
            .with("allowWatchBookmarks", "true")
            .with("timeoutSeconds", WATCH_SECONDS.to_string());
        let answer = self.open(&request)?;
        let allowance = Allowance::new(MAX_EVENT.into());
        let reader = read::text(&self.runtime, answer, allowance.clone(), WATCH_SILENCE);
        let events = serde_json::Deserializer::from_reader(BufReader::new(reader)).into_iter();
        Ok(events.map(move |event| {
            allowance.set(MAX_EVENT);
            event.map_err(|error| unread(&request, &error))
        }))
    }

    /// For how long there is nothing to do.
    pub(crate) fn pause(&self, time: Duration) {
        // Made within: it needs the timer of the runtime.
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    /// Sends a request and receives the head of an answer that is no refusal.
    fn open(&self, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
        for _ in 0..MAX_RETRIES {
            let response = self.send(request)?;
            let later = response.headers().get(RETRY_AFTER);
            let later = later.and_then(|value| value.to_str().ok()?.parse().ok());
            match (response.status().as_u16(), later.map(Duration::from_secs)) {
                (429, Some(later)) if later <= MAX_RETRY_AFTER => self.pause(later),
                _ => return self.accepted(request, response),
            }
        }
        let response = self.send(request)?;
        self.accepted(request, response)
    }

    fn send(&self, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
        let unreachable = |why: String| ApiError::Unreachable { request: request.name(), why };
        let sent = Request::get(request.uri())
            .header(ACCEPT, request.accept)
            .header(ACCEPT_ENCODING, "gzip")
            .header(USER_AGENT, AGENT)
            .body(Body::empty())
            .map_err(|error| unreachable(error.to_string()))?;
        let response = self.runtime.block_on(within(self.timeout, self.client.send(sent)));
        response.map_err(unreachable)?.map_err(|error| unreachable(error::chain(&error)))
    }

    fn accepted(
        &self,
        request: &ApiRequest,
        response: Response<Body>,
    ) -> Result<Response<Body>, ApiError> {
        let code = response.status().as_u16();
        if (200..300).contains(&code) {
            return Ok(response);
        }
        let mut body = Vec::new();
        // What came of it says more than that the rest did not.
        let _ = self.text(response, MAX_REFUSAL).read_to_end(&mut body);
        Err(ApiError::refused(request.name(), code, &body))
    }

    fn text(&self, answer: Response<Body>, limit: u64) -> impl Read + use<'_> {
        read::text(&self.runtime, answer, Allowance::new(limit.into()), self.timeout)
    }
}

/// Why an answer was not read.
fn unread(request: &ApiRequest, error: &serde_json::Error) -> ApiError {
    let (request, why) = (request.name(), error::shown(&error.to_string()));
    match error.is_io() || error.is_eof() {
        true => ApiError::Unreachable { request, why },
        false => ApiError::Unreadable { request, why },
    }
}
