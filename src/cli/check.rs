//! `check`: answers one question about the node in one line.

use std::process::ExitCode;
use std::time::Duration;

use super::args::CheckArgs;
use super::{print, run};
use crate::config::ConfigSource;
use crate::doctor::check::{self, CheckState, FallbackFacts};
use crate::doctor::gather;
use crate::observe::client;

/// How long the daemon may take to answer: a check is over within a second.
const TIMEOUT: Duration = Duration::from_millis(600);
/// How long a look at the node without the daemon may take.
const OUTSIDE_TIMEOUT: Duration = Duration::from_millis(300);

/// Answers one question.
pub fn check(args: CheckArgs, source: &mut ConfigSource) -> ExitCode {
    let (config, _) = source.load_lossy();
    let endpoints = config.process.status_endpoints();
    let seen = run(async {
        let unheard = match client::get(&endpoints, "/status", TIMEOUT).await {
            Ok(answer) if answer.code == 200 => match status::read(&answer.body) {
                Ok(status) => return Ok(Ok(status)),
                Err(error) => error,
            },
            Ok(answer) => format!("the plugin answered with HTTP status {}", answer.code),
            Err(error) => error.brief(),
        };
        match tokio::time::timeout(OUTSIDE_TIMEOUT, gather::fallback_facts(&config)).await {
            Ok(outside) => Ok(Err(FallbackFacts { error: unheard, ..outside })),
            Err(_) => Err(unheard),
        }
    });
    let outcome = match seen {
        Ok(seen) => check::evaluate(args.rule, &seen),
        Err(line) => CheckState::Unknown.with(line),
    };
    let line = check::truncate(&outcome.line, args.max_output.into());
    print(&format!("{line}\n"), outcome.state.exit_code())
}
