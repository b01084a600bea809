//! `doctor`: finds why pods do not get GPUs.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use status::visible_json;

use super::args::{DoctorArgs, SURVEY};
use super::terminal::Terminal;
use super::{print, print_error, run, terminal};
use crate::config::{Config, ConfigSource};
use crate::doctor::gather::{self, DoctorEnvironment};
use crate::doctor::{self, TextStyle};

/// After how long without a word a person is told that it goes on.
const SILENCE: Duration = Duration::from_secs(1);

/// Finds why pods do not get GPUs. `arguments` are those of this process, to start it once more
/// with.
pub fn doctor(
    args: DoctorArgs,
    source: &mut ConfigSource,
    mut arguments: Vec<OsString>,
) -> ExitCode {
    let (config, report) = source.load_lossy();
    let text = run(async {
        let patience = Duration::from_secs(args.driver_timeout);
        if args.survey {
            survey(&config, patience).await.map_err(|error| error.to_string())?;
            return Ok((String::new(), 0));
        }
        arguments.push(format!("--{SURVEY}").into());
        let environment = DoctorEnvironment {
            path: env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect(),
            driver_capabilities: env::var("NVIDIA_DRIVER_CAPABILITIES").ok(),
        };
        let root = args.host_root;
        let facts = gather::facts(&config, &report, root, arguments, patience, environment);
        let facts = telling(facts).await;
        let report = doctor::examine(&facts);
        let text = match args.json {
            true => visible_json(doctor::json(&report)),
            false => {
                let (colour, width) = (terminal::has_colours(), terminal::width());
                doctor::text(&report, TextStyle { colour, width })
            }
        };
        Ok((text, report.verdict().exit_code()))
    });
    match text {
        Ok((text, code)) => print(&text, code),
        Err(error) => {
            print_error(&format!("the doctor cannot examine the node: {error}"));
            ExitCode::from(doctor::Verdict::Unchecked.exit_code())
        }
    }
}

/// Tells a person that it goes on, as long as it takes, and for how long it has gone on.
async fn telling<T>(work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    let began = Instant::now();
    let terminal = Terminal::of(&io::stderr());
    let mut is_told = false;
    let done = loop {
        match tokio::time::timeout(SILENCE, &mut work).await {
            Ok(done) => break done,
            Err(_) => {
                let line = progress(terminal, is_told, began.elapsed());
                is_told |= line.is_some();
                // Where it cannot be told nobody reads it.
                let _ = io::stderr().write_all(line.unwrap_or_default().as_bytes());
            }
        }
    };
    if is_told && terminal != Terminal::Dumb {
        let _ = io::stderr().write_all(b"\n");
    }
    done
}

/// What is told of work that goes on: a line in place of the one before, or one alone on a terminal
/// that can do no more than lines.
fn progress(terminal: Terminal, is_told: bool, elapsed: Duration) -> Option<String> {
    const WAITS: &str = "waiting for the driver, the kubelet and the plugin";
    match terminal {
        Terminal::None => None,
        Terminal::Dumb => (!is_told).then(|| format!("{WAITS} ...\n")),
        Terminal::Plain | Terminal::Colour => {
            Some(format!("\r{WAITS}: {} s ...", elapsed.as_secs()))
        }
    }
}

/// Surveys the driver for the doctor that has started this process.
async fn survey(config: &Config, patience: Duration) -> io::Result<()> {
    let mut channel = gather::answer_channel()?;
    gather::survey(config, patience, |part| {
        let mut line = serde_json::to_vec(part)?;
        line.push(b'\n');
        channel.write_all(&line)
    })
    .await
}
