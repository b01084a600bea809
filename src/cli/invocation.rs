//! The command line and environment of a process. Values are taken as they stand, so that a mistake
//! in one is reported together with all others.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::{ArgMatches, FromArgMatches};

use super::args::Action;
use super::command::{command, command_without_help};
use crate::config::{ConfigSource, Sources, settings};
use crate::observe::log::LogConfig;

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
        let arguments = named(arguments.into_iter().collect());
        let command = if asks_for_help(&arguments) { command() } else { command_without_help() };
        let mut matches = command.try_get_matches_from(arguments.into_iter().map(dashed))?;
        let mut sources = Sources::default();
        sources.set_environment(environment);
        take_flags(&matches, &mut sources);
        let action = match matches.subcommand_name() {
            None => Action::Serve,
            Some(_) => Action::from_arg_matches_mut(&mut matches)?,
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

/// How this process writes its log, as far as a command line says it that has mistakes: every flag
/// of it that is one.
#[must_use]
pub fn log_of_process() -> LogConfig {
    let mut known = Invocation { action: Action::Serve, sources: Sources::default() };
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let Some((name, words)) = arguments.split_first() else { return LogConfig::default() };
    let variable = |name: &str| std::env::var(name).ok();
    known.sources.set_environment(variable);
    // `--flag=value`, and `--flag value`.
    let pairs = words.windows(2).map(|pair| pair.to_vec());
    for words in words.iter().map(|word| vec![word.clone()]).chain(pairs) {
        let parsed = Invocation::parse(std::iter::once(name.clone()).chain(words), |_| None);
        if let Ok(parsed) = parsed {
            known.sources.add_missing_flags(parsed.sources);
        }
    }
    ConfigSource::new(known.sources).load_lossy().0.process.log
}

/// Takes the flags, those before the subcommand and those after it.
fn take_flags(matches: &ArgMatches, sources: &mut Sources) {
    for flag in settings::all().filter_map(|setting| setting.flag) {
        let values = flag_values(matches, flag);
        if !values.is_empty() {
            sources.set_flag(flag, values);
        }
    }
}

/// The values of a flag, in the order of the command line.
fn flag_values(matches: &ArgMatches, flag: &str) -> Vec<String> {
    let values = matches.try_get_many::<String>(flag).ok().flatten();
    let mut values: Vec<String> = values.into_iter().flatten().cloned().collect();
    if let Some((_, matches)) = matches.subcommand() {
        values.extend(flag_values(matches, flag));
    }
    values
}

/// The command line with the subcommand that the program's name stands for: manifests that were
/// written for NVIDIA's image start the MPS control daemon by a name of its own.
fn named(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let words = subcommand_of_name(arguments.first());
    // So that the help does not repeat the name.
    if let Some(name) = arguments.first_mut().filter(|_| !words.is_empty()) {
        *name = OsString::from("gpu-device-plugin");
    }
    for word in words.iter().rev() {
        arguments.insert(1, OsString::from(word));
    }
    arguments
}

/// The words of the subcommand that a program's name stands for.
#[must_use]
pub fn subcommand_of_name(name: Option<&OsString>) -> &'static [&'static str] {
    match name.and_then(|name| Path::new(name).file_name()?.to_str()) {
        Some("mps-control-daemon") => &["mps-control-daemon"],
        Some("mount-shm") => &["mps-control-daemon", "mount-shm"],
        _ => &[],
    }
}

/// Whether any word may ask for the help.
fn asks_for_help(arguments: &[OsString]) -> bool {
    arguments.iter().skip(1).filter_map(|word| word.to_str()).any(|word| {
        word == "help"
            || word == "--help"
            || word.starts_with('-') && !word.starts_with("--") && word.contains('h')
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::MpsAction;

    #[test]
    fn the_help_has_all_flags_however_it_is_asked_for() {
        for line in ["p -h", "p --help", "p help", "p --log-level info -h", "p -Vh"] {
            let words = line.split(' ').map(OsString::from);
            let help = Invocation::parse(words, |_| None).unwrap_err().to_string();
            let is_version = line == "p -Vh" && help.starts_with("gpu-device-plugin ");
            assert!(is_version || help.contains("Which names MIG devices have"), "{line}: {help}");
        }
    }

    #[test]
    fn the_names_of_nvidias_programs_are_subcommands() {
        let daemon = Action::MpsControlDaemon { action: None };
        let mount = Action::MpsControlDaemon { action: Some(MpsAction::MountShm) };
        for (line, expected) in [
            ("/usr/bin/mps-control-daemon", &daemon),
            ("mps-control-daemon --config-file /c.yaml", &daemon),
            ("gpu-device-plugin mps-control-daemon", &daemon),
            ("mps-control-daemon mount-shm", &mount),
            ("/usr/bin/mount-shm", &mount),
            ("nvidia-device-plugin", &Action::Serve),
        ] {
            let words = line.split(' ').map(OsString::from);
            assert_eq!(Invocation::parse(words, |_| None).unwrap().action, *expected, "{line}");
        }
    }
}
