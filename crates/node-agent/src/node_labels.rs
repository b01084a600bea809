//! The labels of this node's Node, again whenever they change: a watch of that one object.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::debug;

use crate::api::{ApiError, ApiRequest, ApiServer};
use crate::retry::Retry;

/// The pause between two watches: one that ends at once is not begun again at once.
const BETWEEN_WATCHES: Duration = Duration::from_secs(1);

/// The labels by name; `None`: they are not known yet.
pub type NodeLabelValues = Option<Arc<BTreeMap<String, String>>>;

/// Follows the labels of a node for good, and publishes them. They stay while the API server is
/// away, and when the Node is deleted.
pub async fn follow_labels(
    api: Arc<ApiServer>,
    node: &str,
    labels: watch::Sender<NodeLabelValues>,
) {
    let mut retry = Retry::of_reading("the labels of this node");
    let mut version = None;
    loop {
        match watch_once(&api, node, &mut version, &labels, &mut retry).await {
            Ok(()) => sleep(BETWEEN_WATCHES).await,
            Err(error) if error.code() == Some(410) => {
                // The version is too old: the next watch begins with what there is.
                debug!(%error, "the watch of this node is begun again");
                version = None;
                sleep(BETWEEN_WATCHES).await;
            }
            Err(error) => {
                version = None;
                sleep(retry.failed(&error.into()).whole).await;
            }
        }
    }
}

/// One watch, to its end.
async fn watch_once(
    api: &ApiServer,
    node: &str,
    version: &mut Option<String>,
    labels: &watch::Sender<NodeLabelValues>,
    retry: &mut Retry,
) -> Result<(), ApiError> {
    let path = format!("/api/v1/nodes?fieldSelector=metadata.name%3D{node}");
    let request = ApiRequest::watch_metadata(&path, version.as_deref());
    let mut events = api.watch(&request).await?;
    while let Some(event) = events.next().await? {
        let object = &event["object"];
        if event["type"] == "ERROR" {
            return Err(events.refused(object));
        }
        retry.succeeded();
        if let Some(seen) = object["metadata"]["resourceVersion"].as_str() {
            *version = is_version(seen).then(|| seen.to_owned());
        }
        if matches!(event["type"].as_str(), Some("ADDED" | "MODIFIED")) {
            let seen = labels_of(object);
            labels.send_if_modified(|known| {
                let is_new = known.as_deref() != Some(&seen);
                if is_new {
                    *known = Some(Arc::new(seen));
                }
                is_new
            });
        }
    }
    Ok(())
}

fn labels_of(object: &Value) -> BTreeMap<String, String> {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    labels.filter_map(text).collect()
}

/// A version goes back in a query, as it came.
fn is_version(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric())
}
