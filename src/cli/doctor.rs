//! `doctor`: finds why pods do not get GPUs.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use super::args::{DoctorArgs, SURVEY};
use super::{print, run};
use crate::config::ConfigSource;
use crate::doctor;
use crate::doctor::gather;

/// Finds why pods do not get GPUs. `arguments` are those of this process, to start it once more
/// with. Without `colour` there is none on a terminal either.
pub fn doctor(
    args: DoctorArgs,
    source: &mut ConfigSource,
    mut arguments: Vec<OsString>,
    colour: bool,
) -> ExitCode {
    let (config, report) = source.load_lossy();
    let text = run(async {
        if args.survey {
            let survey = serde_json::to_string(&gather::survey(&config).await)
                .map_err(|error| error.to_string())?;
            return Ok((survey + "\n", 0));
        }
        arguments.push(format!("--{SURVEY}").into());
        let facts = gather::facts(&config, &report, args.host_root, arguments).await;
        let report = doctor::examine(&facts);
        let text = match args.json {
            true => doctor::json(&report),
            false => doctor::text(&report, colour && std::io::stdout().is_terminal()),
        };
        Ok((text, report.verdict().exit_code()))
    });
    match text {
        Ok((text, code)) => print(&text, code),
        Err(error) => {
            eprintln!("the doctor cannot examine the node: {error}");
            ExitCode::from(doctor::Verdict::Unchecked.exit_code())
        }
    }
}
