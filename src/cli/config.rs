//! `config check`, `config show` and `config reference`.

use std::process::ExitCode;

use super::args::ConfigAction;
use super::output::print;
use crate::config::{ConfigSource, Purpose, reference, show};

/// The exit code after a mistake in the command line or the configuration (EX_USAGE of
/// sysexits.h).
pub const USAGE: u8 = 64;

/// Checks or prints the configuration, or its documentation.
pub fn config(action: ConfigAction, source: &mut ConfigSource) -> ExitCode {
    let text = match action {
        ConfigAction::Reference => Ok(reference()),
        ConfigAction::Check => source.check(),
        ConfigAction::Show => source.load(Purpose::Serve).map(|loaded| {
            loaded.warnings().for_each(|warning| eprintln!("{warning}"));
            show(&loaded.config)
        }),
    };
    match text {
        Ok(text) => print(&text, 0),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(USAGE)
        }
    }
}
