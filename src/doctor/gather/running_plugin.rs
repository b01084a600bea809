//! The status of the running plugin.

use std::time::Duration;

use status::Status;

use crate::config::Config;
use crate::observe::client;

/// How long the running plugin may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

pub(super) async fn status(config: &Config) -> Result<Box<Status>, String> {
    let response = client::get(&config.process.http_endpoints(), "/status", DEADLINE).await?;
    serde_json::from_str(&response.body)
        .map(Box::new)
        .map_err(|error| format!("what answers is no gpu-device-plugin: {error}"))
}
