//! `status`: prints what the running daemon knows.

use std::process::ExitCode;
use std::time::Duration;

use device::names::QuotedText;
use serde::Deserialize;
use serde_json::Value;
use status::{SCHEMA_VERSION, Status, table, yaml};

use super::args::OutputFormat;
use super::{print, print_error, run};
use crate::config::ConfigSource;
use crate::observe::client::{self, HttpResponse};

/// How long the daemon may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Prints what the daemon knows.
pub fn status(format: OutputFormat, source: &mut ConfigSource) -> ExitCode {
    let (config, _) = source.load_lossy();
    let endpoints = config.process.status_endpoints();
    let text = run(async {
        let answer = client::get(&endpoints, "/status", TIMEOUT).await?;
        render(&answer, format)
    });
    match text {
        Ok(text) => print(&text, 0),
        Err(error) => {
            print_error(&format!(
                "{error}; is the plugin running on this node (kubectl -n kube-system get pods -o \
                 wide -l app.kubernetes.io/name=gpu-device-plugin), and is this its \
                 --http-address? In its pod no argument is needed: kubectl -n kube-system exec POD \
                 -- gpu-device-plugin status. `gpu-device-plugin doctor` finds what keeps GPUs \
                 from pods without it"
            ));
            ExitCode::FAILURE
        }
    }
}

fn render(answer: &HttpResponse, format: OutputFormat) -> Result<String, String> {
    if answer.code != 200 {
        // Who answers may be anybody.
        let (code, body) = (answer.code, QuotedText::new(answer.body.trim()));
        return Err(format!("the plugin answered with HTTP status {code}: {body}"));
    }
    // JSON and YAML also have fields of a newer daemon that this program does not know.
    match format {
        OutputFormat::Json => {
            let value: Value = serde_json::from_str(&answer.body).map_err(no_status)?;
            serde_json::to_string_pretty(&value).map(|text| text + "\n").map_err(no_status)
        }
        OutputFormat::Yaml => {
            serde_json::from_str(&answer.body).map(|value| yaml(&value)).map_err(no_status)
        }
        OutputFormat::Table | OutputFormat::Wide => {
            Ok(table(&parse(&answer.body)?, format == OutputFormat::Wide))
        }
    }
}

fn no_status(error: serde_json::Error) -> String {
    format!("what answers is no gpu-device-plugin: {error}")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    schema_version: u32,
}

/// The status in the body of an answer.
pub(super) fn parse(body: &str) -> Result<Status, String> {
    // The version first: another one may have words that this program does not know.
    let Version { schema_version } = serde_json::from_str(body).map_err(no_status)?;
    match schema_version {
        SCHEMA_VERSION => serde_json::from_str(body).map_err(no_status),
        other => Err(format!(
            "the plugin speaks version {other} of the status and this program version \
             {SCHEMA_VERSION}: use the program of the plugin's own image, or -o json"
        )),
    }
}
