//! What the program is to do: the subcommands and their arguments.

use std::path::PathBuf;

use clap::ArgMatches;

use crate::doctor::check::Rule;

/// What the program is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Serve the kubelet.
    Serve,
    /// `config`: check or print the configuration.
    Config(ConfigAction),
    /// `status`: print what a running daemon knows.
    Status(OutputFormat),
    /// `check`: answer one question in one line.
    Check(CheckArgs),
    /// `doctor`: find why pods do not get GPUs.
    Doctor(DoctorArgs),
    /// `list-gpus`: print the GPUs that answer a new initialisation of NVML.
    ListGpus {
        /// Where the driver's root is mounted.
        driver_root: PathBuf,
        /// The library, if it is named.
        library: Option<PathBuf>,
    },
}

/// What `config` is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigAction {
    /// `config check FILE`: report every mistake in a file.
    Check,
    /// `config show`: print the configuration in force.
    Show,
    /// `config reference`: print the table of settings in Markdown.
    Reference,
}

/// How `status` prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OutputFormat {
    /// A table.
    #[default]
    Table,
    /// A table with more columns.
    Wide,
    /// JSON, as the daemon gives it.
    Json,
    /// The same as YAML.
    Yaml,
}

/// The arguments of `check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckArgs {
    /// The question.
    pub rule: Rule,
    /// The most bytes of the answer.
    pub max_output: usize,
}

/// The arguments of `doctor`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DoctorArgs {
    /// Print JSON instead of text.
    pub json: bool,
    /// Where the host's root is mounted; `None`: it is found.
    pub host_root: Option<PathBuf>,
    /// Ask the driver and nothing else, for the doctor that has started this process.
    pub survey: bool,
}

/// The hidden flag that sets [`DoctorArgs::survey`].
pub const SURVEY: &str = "ask-driver";

impl OutputFormat {
    pub(super) const WORDS: [(&'static str, Self); 4] =
        [("table", Self::Table), ("wide", Self::Wide), ("json", Self::Json), ("yaml", Self::Yaml)];

    pub(super) fn new(matches: &mut ArgMatches) -> Self {
        chosen(&Self::WORDS, matches.remove_one("output"))
    }
}

impl CheckArgs {
    /// What node problem detector keeps of a line by default (max_output_length).
    pub(super) const MAX_OUTPUT: &'static str = "80";

    pub(super) fn new(matches: &mut ArgMatches) -> Self {
        let max_output = matches.remove_one::<u16>("max-output").map_or(usize::MAX, usize::from);
        Self { rule: chosen(&Rule::WORDS, matches.remove_one("RULE")), max_output }
    }
}

/// The meaning of a word; clap has refused all others.
fn chosen<T: Copy + Default>(words: &[(&str, T)], word: Option<String>) -> T {
    let word = words.iter().find(|(known, _)| Some(*known) == word.as_deref());
    word.map(|(_, meaning)| *meaning).unwrap_or_default()
}

impl DoctorArgs {
    pub(super) fn new(matches: &mut ArgMatches) -> Self {
        Self {
            json: matches.remove_one::<String>("output").is_some_and(|format| format == "json"),
            host_root: matches.remove_one("host-root"),
            survey: matches.get_flag(SURVEY),
        }
    }
}

impl ConfigAction {
    pub(super) fn new(name: &str) -> Self {
        match name {
            "check" => Self::Check,
            "reference" => Self::Reference,
            _ => Self::Show,
        }
    }
}
