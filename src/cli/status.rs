//! `status`: prints what the running daemon knows.

use std::process::ExitCode;
use std::time::Duration;

use device::names::QuotedText;
use serde_json::Value;
use status::{Severity, Status, TableStyle, read, table, visible_json, yaml};

use super::args::OutputFormat;
use super::{print, print_error, run, terminal};
use crate::config::ConfigSource;
use crate::observe::client::{self, HttpResponse};

/// How long the daemon may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The exit codes with `--exit-code`: there is a problem, and it cannot be told.
const PROBLEM: u8 = 1;
const UNKNOWN: u8 = 2;

/// Prints what the daemon knows. With `judges` the exit code says whether there is a problem.
pub fn status(format: OutputFormat, judges: bool, source: &mut ConfigSource) -> ExitCode {
    let (config, _) = source.load_lossy();
    let endpoints = config.process.status_endpoints();
    let answer = run(async {
        let answer = client::get(&endpoints, "/status", TIMEOUT).await?;
        let text = render(&answer, format)?;
        Ok((text, if judges { verdict(&answer) } else { 0 }))
    });
    match answer {
        Ok((text, code)) => print(&text, code),
        Err(error) => {
            print_error(&format!(
                "{error}; is the plugin running on this node (kubectl -n kube-system get pods -o \
                 wide -l app.kubernetes.io/name=gpu-device-plugin), and is this its \
                 --http-address? In its pod no argument is needed: kubectl -n kube-system exec POD \
                 -- gpu-device-plugin status. `gpu-device-plugin doctor` finds what keeps GPUs \
                 from pods without it"
            ));
            if judges { ExitCode::from(UNKNOWN) } else { ExitCode::FAILURE }
        }
    }
}

fn render(answer: &HttpResponse, format: OutputFormat) -> Result<String, String> {
    if answer.code != 200 {
        // Who answers may be anybody.
        let (code, body) = (answer.code, QuotedText::new(answer.body.trim()));
        return Err(format!("what answers is no gpu-device-plugin: HTTP status {code}: {body}"));
    }
    // JSON and YAML also have fields of a newer daemon that this program does not know.
    match format {
        OutputFormat::Json => {
            let value: Value = serde_json::from_str(&answer.body).map_err(no_status)?;
            let text = serde_json::to_string_pretty(&value).map_err(no_status)?;
            Ok(visible_json(text) + "\n")
        }
        OutputFormat::Yaml => {
            serde_json::from_str(&answer.body).map(|value| yaml(&value)).map_err(no_status)
        }
        OutputFormat::Table | OutputFormat::Wide => {
            let style = TableStyle {
                wide: format == OutputFormat::Wide,
                colour: terminal::has_colours(),
                width: terminal::width(),
            };
            Ok(table(&read(&answer.body)?, style))
        }
    }
}

fn no_status(error: serde_json::Error) -> String {
    format!("what answers is no gpu-device-plugin: {error}")
}

/// The exit code that says whether there is a problem.
fn verdict(answer: &HttpResponse) -> u8 {
    let of = |status: &Status| {
        let problems = status.find_problems();
        problems.iter().any(|problem| problem.severity == Severity::Error)
    };
    match read(&answer.body).map(|status| of(&status)) {
        Ok(false) => 0,
        Ok(true) => PROBLEM,
        Err(_) => UNKNOWN,
    }
}
