//! The subcommands that look at a node and its daemon: `status`, `check` and `doctor`. Part of the
//! executable.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::Duration;

use status::{SCHEMA_VERSION, Status, table, yaml};

use super::args::{Check, Doctor, Form, Invocation, SURVEY};
use crate::config::ConfigSource;
use crate::doctor;
use crate::doctor::check::{self, Outside, State};
use crate::doctor::gather::{self, Look};
use crate::observe::client::{self, Answer};

/// How long a daemon may take to answer a person.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to answer a check, which is over within a second; and how long a look from
/// outside may take.
const IMPATIENCE: Duration = Duration::from_millis(600);
const GLANCE: Duration = Duration::from_millis(300);

/// In a container the daemon is its first process. What it was told by flags holds for those who
/// look at it too, so that they need no arguments.
pub fn take_flags_of_the_daemon(invocation: &mut Invocation) {
    let same = |a: &str, b: &str| {
        std::fs::read_link(a).is_ok_and(|a| std::fs::read_link(b).is_ok_and(|b| a == b))
    };
    if !same("/proc/1/exe", "/proc/self/exe") {
        return;
    }
    if let Ok(line) = std::fs::read("/proc/1/cmdline") {
        let words = line.strip_suffix(b"\0").unwrap_or(&line).split(|byte| *byte == 0);
        invocation.fall_back_on(words.map(|word| OsStr::from_bytes(word).to_owned()));
    }
}

/// Prints what the daemon knows.
pub fn status(form: Form, source: &mut ConfigSource) -> ExitCode {
    let (config, _) = source.load_lossy();
    let places = config.process.http_endpoints();
    let answer = in_runtime(async {
        client::get(&places, "/status", PATIENCE).await.map_err(|error| error.to_string())
    });
    match answer.and_then(|answer| told(&answer, form)) {
        Ok(text) => print(&text, 0),
        Err(error) => {
            eprintln!(
                "{error}; is the plugin running on this node (kubectl -n kube-system get pods -o \
                 wide -l app.kubernetes.io/name=gpu-device-plugin), and is this its \
                 --http-address? In its pod no argument is needed: kubectl -n kube-system exec POD \
                 -- gpu-device-plugin status. `gpu-device-plugin doctor` tells what keeps GPUs \
                 from pods without it"
            );
            ExitCode::FAILURE
        }
    }
}

fn told(answer: &Answer, form: Form) -> Result<String, String> {
    if answer.code != 200 {
        return Err(format!(
            "the plugin answered with HTTP status {}: {}",
            answer.code,
            answer.body.trim()
        ));
    }
    let no_status =
        |error: serde_json::Error| format!("what answers is no gpu-device-plugin: {error}");
    // JSON and YAML have also what a newer daemon says and this program does not know.
    match form {
        Form::Json => {
            let value: serde_json::Value = serde_json::from_str(&answer.body).map_err(no_status)?;
            serde_json::to_string_pretty(&value).map(|text| text + "\n").map_err(no_status)
        }
        Form::Yaml => {
            serde_json::from_str(&answer.body).map(|value| yaml(&value)).map_err(no_status)
        }
        Form::Table | Form::Wide => {
            let status = parsed(&answer.body)?;
            Ok(table(&status, form == Form::Wide))
        }
    }
}

fn parsed(body: &str) -> Result<Status, String> {
    let status: Status = serde_json::from_str(body)
        .map_err(|error| format!("what answers is no gpu-device-plugin: {error}"))?;
    match status.schema_version {
        SCHEMA_VERSION => Ok(status),
        other => Err(format!(
            "the plugin speaks version {other} of the status and this program version \
             {SCHEMA_VERSION}: use the program of the plugin's own image, or -o json"
        )),
    }
}

/// Answers one question.
pub fn check(asked: Check, source: &mut ConfigSource) -> ExitCode {
    let (config, _) = source.load_lossy();
    let places = config.process.http_endpoints();
    let seen = in_runtime(async {
        let unheard = match client::get(&places, "/status", IMPATIENCE).await {
            Ok(answer) if answer.code == 200 => match parsed(&answer.body) {
                Ok(status) => return Ok(Ok(status)),
                Err(error) => error,
            },
            Ok(answer) => format!("the plugin answered with HTTP status {}", answer.code),
            Err(error) => error.to_string(),
        };
        match tokio::time::timeout(GLANCE, gather::outside(&config)).await {
            Ok(outside) => Ok(Err(Outside { unheard, ..outside })),
            Err(_) => Err(unheard),
        }
    });
    let outcome = match seen {
        Ok(seen) => check::judge(asked.rule, &seen),
        Err(line) => check::Outcome { state: State::Unknown, line },
    };
    print(&format!("{}\n", check::cut(&outcome.line, asked.longest)), outcome.state.exit_code())
}

/// Says why pods do not get GPUs. `arguments` are those of this process, to start it once more
/// with. Without `colour` there is none on a terminal either.
pub fn doctor(
    asked: Doctor,
    source: &mut ConfigSource,
    mut arguments: Vec<OsString>,
    colour: bool,
) -> ExitCode {
    let (config, report) = source.load_lossy();
    let told = in_runtime(async {
        if asked.survey {
            let survey = serde_json::to_string(&gather::survey(&config).await)
                .map_err(|error| error.to_string())?;
            return Ok((survey + "\n", 0));
        }
        arguments.push(format!("--{SURVEY}").into());
        let look = Look { host_root: asked.host_root, survey: arguments };
        let report = doctor::examine(&gather::facts(&config, &report, look).await);
        let text = match asked.json {
            true => doctor::json(&report),
            false => doctor::text(&report, colour && std::io::stdout().is_terminal()),
        };
        Ok((text, report.verdict().exit_code()))
    });
    match told {
        Ok((text, code)) => print(&text, code),
        Err(error) => {
            eprintln!("the doctor cannot look: {error}");
            ExitCode::from(doctor::Verdict::Unchecked.exit_code())
        }
    }
}

/// Runs to the end, and leaves behind what does not come back: it must not hold up the exit.
fn in_runtime<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Prints a text. Whoever reads only its beginning, such as `head`, has heard enough.
fn print(text: &str, code: u8) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("cannot write: {error}");
            ExitCode::from(2)
        }
        _ => ExitCode::from(code),
    }
}
