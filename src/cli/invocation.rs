//! The command line and environment of a process. Values are taken as they stand, so that a mistake
//! in one is reported together with all others.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::ArgMatches;

use super::args::{Action, CheckArgs, ConfigAction, DoctorArgs, OutputFormat};
use super::command::command;
use crate::config::{Sources, settings};
use crate::nvml;

/// A parsed command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// What to do.
    pub action: Action,
    /// The flags, and the environment.
    pub sources: Sources,
}

impl Invocation {
    /// Parses `arguments`, the first being the program's name, and takes the variables of
    /// `environment`.
    ///
    /// # Errors
    /// A mistake, the help or the version: what clap prints.
    pub fn parse(
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, clap::Error> {
        let mut matches = command().try_get_matches_from(arguments.into_iter().map(dashed))?;
        let mut sources = Sources::default();
        sources.set_environment(environment);
        take_flags(&mut matches, &mut sources);
        let action = match matches.remove_subcommand() {
            None => Action::Serve,
            Some((name, mut command)) => {
                take_flags(&mut command, &mut sources);
                match name.as_str() {
                    "doctor" => Action::Doctor(DoctorArgs::new(&mut command)),
                    "status" => Action::Status(OutputFormat::new(&mut command)),
                    "check" => Action::Check(CheckArgs::new(&mut command)),
                    nvml::look::SUBCOMMAND => list_gpus(&mut command),
                    _ => Action::Config(config(command, &mut sources)),
                }
            }
        };
        Ok(Self { action, sources })
    }

    /// The command line and environment of this process.
    ///
    /// # Errors
    /// As of [`Invocation::parse`].
    pub fn of_process() -> Result<Self, clap::Error> {
        let variable =
            |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self::parse(std::env::args_os(), variable)
    }
}

impl Invocation {
    /// In a container the daemon is the first process. Its flags hold for the subcommands that look
    /// at it too, so that they need no arguments.
    pub fn add_flags_of_daemon(&mut self) {
        let same = |a: &str, b: &str| {
            std::fs::read_link(a).is_ok_and(|a| std::fs::read_link(b).is_ok_and(|b| a == b))
        };
        if !same("/proc/1/exe", "/proc/self/exe") {
            return;
        }
        if let Ok(line) = std::fs::read("/proc/1/cmdline") {
            let words = line.strip_suffix(b"\0").unwrap_or(&line).split(|byte| *byte == 0);
            self.add_missing_flags(words.map(|word| OsStr::from_bytes(word).to_owned()));
        }
    }

    /// Adds the flags of another command line that are not in this one. Arguments that are no
    /// command line of this program have none.
    pub fn add_missing_flags(&mut self, arguments: impl IntoIterator<Item = OsString>) {
        if let Ok(other) = Self::parse(arguments, |_| None) {
            self.sources.add_missing_flags(other.sources);
        }
    }
}

fn list_gpus(matches: &mut ArgMatches) -> Action {
    let mut path = |name| matches.remove_one::<PathBuf>(name);
    Action::ListGpus {
        driver_root: path("driver-root").unwrap_or_default(),
        library: path("library"),
    }
}

fn config(mut matches: ArgMatches, sources: &mut Sources) -> ConfigAction {
    let Some((name, mut command)) = matches.remove_subcommand() else { return ConfigAction::Show };
    take_flags(&mut command, sources);
    if let Ok(Some(file)) = command.try_remove_one::<PathBuf>("FILE") {
        sources.set_config_file(file.to_string_lossy().into_owned());
    }
    ConfigAction::new(&name)
}

fn take_flags(matches: &mut ArgMatches, sources: &mut Sources) {
    for flag in settings::all().filter_map(|setting| setting.flag) {
        if let Ok(Some(values)) = matches.try_remove_many::<String>(flag) {
            sources.set_flag(flag, values.collect());
        }
    }
}

/// `-flag` as `--flag`: NVIDIA's plugin takes both.
fn dashed(argument: OsString) -> OsString {
    let long = |text: &str| {
        let name = text.split('=').next().unwrap_or(text);
        settings::all().any(|setting| setting.flag == Some(name) || setting.aliases.contains(&name))
    };
    match argument.to_str().and_then(|text| text.strip_prefix('-')) {
        Some(text) if long(text) => OsString::from(format!("--{text}")),
        _ => argument,
    }
}
