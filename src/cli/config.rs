//! `config`: checks config files, or prints the configuration in force or its documentation.

use std::path::PathBuf;
use std::process::ExitCode;

use super::args::{CheckConfigArgs, ConfigAction};
use super::{USAGE, print, print_error, print_json};
use crate::config::{ConfigSource, check, reference, show};

/// Checks or prints the configuration, or its documentation.
pub fn config(action: ConfigAction, source: &mut ConfigSource) -> ExitCode {
    match action {
        ConfigAction::Reference => print(&reference(), 0),
        ConfigAction::Check(args) => check_files(&args, source),
        ConfigAction::Show { defaults } => show_config(defaults, source),
    }
}

/// Checks every configuration in the files.
fn check_files(args: &CheckConfigArgs, source: &ConfigSource) -> ExitCode {
    let each = |file: &PathBuf| check::check(source.sources(), file, check::read(file));
    let checked: Vec<_> = args.files.iter().flat_map(each).collect();
    let passed = checked.iter().all(|one| one.passes(args.strict));
    let code = if passed { 0 } else { USAGE };
    if args.json {
        return print_json(check::json(&checked, args.strict), code);
    }
    let texts: Vec<_> = checked.iter().map(check::CheckedConfig::text).collect();
    print(&texts.join("\n"), code)
}

fn show_config(every_key: bool, source: &mut ConfigSource) -> ExitCode {
    match source.load() {
        Ok(loaded) => {
            loaded.warnings().for_each(|warning| print_error(&warning));
            if let Some(refused) = source.take_refused_choice() {
                let why = refused.0.mistakes_in_line();
                print_error(&format!("the config file that is chosen by name is refused: {why}"));
            }
            let by_name = loaded.report.file != loaded.config.process.config_file;
            let file = loaded.report.file.as_deref().filter(|_| by_name);
            let line = file.map(|file| format!("# chosen by name: {}\n", file.display()));
            print(&(line.unwrap_or_default() + &show(&loaded.config, every_key)), 0)
        }
        Err(error) => {
            print_error(&error.to_string());
            ExitCode::from(USAGE)
        }
    }
}
