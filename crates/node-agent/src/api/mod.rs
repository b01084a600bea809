//! Requests to the API server. Access to it is kube's: kubeconfig or service account, whose token
//! it reads again as it rotates, and TLS.

mod error;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use status::error_chain::ErrorChain;
use tokio::sync::Mutex;
use tokio::time::timeout;

pub use error::{ApiError, FieldConflict};
pub use watch::WatchEvents;

/// The largest answer that is read, in bytes: a page of 500 nodes' metadata, some times over.
const MAX_BODY: usize = 32 << 20;
/// How long the head of an answer may take, and how long the rest.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a connection may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// The token is not known, or not any more.
const UNAUTHORIZED: u16 = 401;
const AGENT: &str = concat!("gpu-node-agent/", env!("CARGO_PKG_VERSION"));

/// The API server, as this process reaches it.
pub struct ApiServer {
    kubeconfig: Option<PathBuf>,
    /// Made with the first request: the token may come later than the process. Made again after one
    /// that it was not good for.
    client: Mutex<Option<Client>>,
}

/// One request.
#[derive(Debug, Clone)]
pub struct ApiRequest {
    method: Method,
    path: String,
    content_type: &'static str,
    accept: &'static str,
    body: Vec<u8>,
}

const JSON: &str = "application/json";

impl ApiRequest {
    /// Reads an object, or a list.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, JSON, None)
    }

    /// Reads a list with nothing but the metadata of its objects.
    #[must_use]
    pub fn get_metadata(path: impl Into<String>) -> Self {
        let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        Self { accept, ..Self::get(path) }
    }

    /// Reads nothing but the metadata of an object.
    #[must_use]
    pub fn get_one_metadata(path: impl Into<String>) -> Self {
        let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        Self { accept, ..Self::get(path) }
    }

    /// Watches what a list has, each object with nothing but its metadata. Without a version it
    /// begins with what there is. The path has a query already.
    #[must_use]
    pub fn watch_metadata(path: &str, version: Option<&str>) -> Self {
        let seconds = watch::SECONDS;
        let version = version.map(|version| format!("&resourceVersion={version}"));
        let version = version.unwrap_or_default();
        let query =
            format!("watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}{version}");
        let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        Self { accept, ..Self::get(format!("{path}&{query}")) }
    }

    /// Creates an object.
    #[must_use]
    pub fn post(path: impl Into<String>, object: &Value) -> Self {
        Self::new(Method::POST, path, JSON, Some(object))
    }

    /// Applies an object as the whole of what this manager wants of it.
    #[must_use]
    pub fn apply(path: &str, manager: &str, force: bool, object: &Value) -> Self {
        let path = format!("{path}?fieldManager={manager}&force={force}");
        Self::new(Method::PATCH, path, "application/apply-patch+yaml", Some(object))
    }

    /// Changes some fields of an object.
    #[must_use]
    pub fn merge(path: impl Into<String>, change: &Value) -> Self {
        Self::new(Method::PATCH, path, "application/merge-patch+json", Some(change))
    }

    /// Deletes an object.
    #[must_use]
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path, JSON, None)
    }

    fn new(
        method: Method,
        path: impl Into<String>,
        content_type: &'static str,
        body: Option<&Value>,
    ) -> Self {
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        Self { method, path: path.into(), content_type, accept: JSON, body }
    }

    /// The request in words, without its query.
    fn name(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }
}

impl ApiServer {
    /// The API server of a kubeconfig, or of the cluster that this pod runs in.
    #[must_use]
    pub fn new(kubeconfig: Option<PathBuf>) -> Self {
        Self { kubeconfig, client: Mutex::default() }
    }

    /// Sends a request. The answer is an object, or null if it has none.
    ///
    /// # Errors
    /// There is no access to an API server, it is not reached, or it refuses.
    pub async fn send(&self, request: &ApiRequest) -> Result<Value, ApiError> {
        let body = read(request, self.open(request).await?.into_body()).await?;
        Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// Begins a watch.
    ///
    /// # Errors
    /// As of [`send`](Self::send).
    pub async fn watch(&self, request: &ApiRequest) -> Result<WatchEvents, ApiError> {
        let response = self.open(request).await?;
        Ok(WatchEvents::new(request.name(), response.into_body()))
    }

    /// Sends a request and receives the head of an answer that is no refusal.
    async fn open(&self, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
        let client = self.client().await?;
        let unreachable = |why: String| ApiError::Unreachable { request: request.name(), why };
        let sent = Request::builder()
            .method(request.method.clone())
            .uri(&request.path)
            .header(ACCEPT, request.accept)
            .header(CONTENT_TYPE, request.content_type)
            .header(USER_AGENT, AGENT)
            .body(Body::from(request.body.clone()))
            .map_err(|error| unreachable(error.to_string()))?;
        let response = match timeout(DEADLINE, client.send(sent)).await {
            Ok(response) => response.map_err(|error| unreachable(chain(&error)))?,
            Err(_) => return Err(unreachable(late())),
        };
        let code = response.status().as_u16();
        if (200..300).contains(&code) {
            return Ok(response);
        }
        if code == UNAUTHORIZED {
            // There may be another token by now: the next request reads it.
            *self.client.lock().await = None;
        }
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        let body = read(request, response.into_body()).await?;
        Err(ApiError::refused(request.name(), code, retry_after.map(Duration::from_secs), &body))
    }

    async fn client(&self) -> Result<Client, ApiError> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let mut config = self.config().await.map_err(ApiError::NoAccess)?;
        config.connect_timeout = Some(CONNECT_DEADLINE);
        // Each function retries with pauses of its own, and says why.
        config.default_retry = false;
        let made = Client::try_from(config).map_err(|error| ApiError::NoAccess(chain(&error)))?;
        Ok(client.insert(made).clone())
    }

    async fn config(&self) -> Result<Config, String> {
        let Some(path) = &self.kubeconfig else {
            return Config::incluster().map_err(|error| chain(&error));
        };
        let kubeconfig = Kubeconfig::read_from(path).map_err(|error| chain(&error))?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        config.map_err(|error| format!("{}: {}", path.display(), chain(&error)))
    }
}

/// The whole of an answer.
async fn read(request: &ApiRequest, body: Body) -> Result<Bytes, ApiError> {
    let unreachable = |why: String| ApiError::Unreachable { request: request.name(), why };
    match timeout(DEADLINE, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(_) => Err(unreachable(late())),
    }
}

fn late() -> String {
    format!("no answer within {} s", DEADLINE.as_secs())
}

fn chain(error: &dyn std::error::Error) -> String {
    ErrorChain(error).to_string()
}
