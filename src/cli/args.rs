//! The command line: flags from the table of settings, and the subcommands. Values are taken as they
//! stand, so that a mistake in one is reported together with all others.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::Sources;
use crate::config::settings::{self, Setting, Shape};
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
                    _ => Action::Config(ConfigAction::new(command, &mut sources)),
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

impl OutputFormat {
    const WORDS: [(&'static str, Self); 4] =
        [("table", Self::Table), ("wide", Self::Wide), ("json", Self::Json), ("yaml", Self::Yaml)];

    fn new(matches: &mut ArgMatches) -> Self {
        chosen(&Self::WORDS, matches.remove_one("output"))
    }
}

impl CheckArgs {
    /// What node problem detector keeps of a line by default (max_output_length).
    const MAX_OUTPUT: &'static str = "80";

    fn new(matches: &mut ArgMatches) -> Self {
        let max_output = matches.remove_one::<u16>("max-output").map_or(usize::MAX, usize::from);
        Self { rule: chosen(&Rule::WORDS, matches.remove_one("RULE")), max_output }
    }
}

/// The meaning of a word; clap has refused all others.
fn chosen<T: Copy + Default>(words: &[(&str, T)], word: Option<String>) -> T {
    let word = words.iter().find(|(known, _)| Some(*known) == word.as_deref());
    word.map(|(_, meaning)| *meaning).unwrap_or_default()
}

fn status() -> Command {
    let output =
        Arg::new("output").long("output").short('o').value_name("FORMAT").default_value("table");
    Command::new("status")
        .about("Print what the running plugin knows: devices, health with reason, who holds them")
        .after_help("It asks at --http-address. Exit code: 0 it answered, 1 it did not.")
        .arg(output.value_parser(OutputFormat::WORDS.map(|(word, _)| word)).help("The format"))
}

fn check() -> Command {
    let rule =
        Arg::new("RULE").default_value("all").value_parser(Rule::WORDS.map(|(word, _)| word));
    let max_output = Arg::new("max-output")
        .long("max-output")
        .value_name("BYTES")
        .default_value(CheckArgs::MAX_OUTPUT);
    Command::new("check")
        .about("Answer one question in one line, for node problem detector's custom plugin monitor")
        .after_help(
            "It asks the running plugin at --http-address for less than a second; without it, it \
             says what can be seen from outside. Exit code: 0 OK, 1 NonOK, 2 Unknown.",
        )
        .arg(rule.help(
            "Is every GPU Healthy, every resource registered with the kubelet, does NVML answer; \
            or all",
        ))
        .arg(max_output.value_parser(clap::value_parser!(u16)).help("The most bytes of the line"))
}

impl DoctorArgs {
    fn new(matches: &mut ArgMatches) -> Self {
        Self {
            json: matches.remove_one::<String>("output").is_some_and(|format| format == "json"),
            host_root: matches.remove_one("host-root"),
            survey: matches.get_flag(SURVEY),
        }
    }
}

impl ConfigAction {
    fn new(mut config: ArgMatches, sources: &mut Sources) -> Self {
        let Some((name, mut command)) = config.remove_subcommand() else { return Self::Show };
        take_flags(&mut command, sources);
        if let Ok(Some(file)) = command.try_remove_one::<PathBuf>("FILE") {
            sources.set_config_file(file.to_string_lossy().into_owned());
        }
        match name.as_str() {
            "check" => Self::Check,
            "reference" => Self::Reference,
            _ => Self::Show,
        }
    }
}

fn doctor() -> Command {
    let output = Arg::new("output")
        .long("output")
        .short('o')
        .value_name("FORMAT")
        .value_parser(["text", "json"]);
    let root = Arg::new("host-root")
        .long("host-root")
        .value_name("DIR")
        .value_parser(clap::value_parser!(PathBuf));
    Command::new("doctor")
        .about("Find why pods on this node do not get GPUs, and how to correct it; changes nothing")
        .after_help(
            "Exit code: 0 nothing is wrong, 1 something keeps GPUs from pods, 2 not all could be \
             checked.",
        )
        .arg(output.default_value("text").help("The format"))
        .arg(root.help(
            "Where the root of the host is mounted; found automatically where the driver root is \
             at or below it",
        ))
        .arg(Arg::new(SURVEY).long(SURVEY).hide(true).action(ArgAction::SetTrue))
}

/// The command line as clap knows it.
#[must_use]
pub fn command() -> Command {
    let version = concat!(env!("CARGO_PKG_VERSION"), "\ncommit: ", env!("GIT_COMMIT"));
    let check = Command::new("check")
        .about("Report every mistake and warning in a config file, and start nothing")
        .arg(
            Arg::new("FILE")
                .required(true)
                .value_parser(clap::value_parser!(PathBuf))
                .help("The file to check"),
        );
    let show = Command::new("show")
        .about("Print the configuration in force as YAML, with the origin of each value");
    let reference = Command::new("reference")
        .about("Print the table of settings in Markdown, for the documentation")
        .hide(true);
    let config = Command::new("config")
        .about("Check or show the configuration")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([check, show, reference]);
    Command::new("gpu-device-plugin")
        .about(
            "Offers a node's NVIDIA GPUs to the kubelet. Without a subcommand it serves until it \
            is stopped.",
        )
        .after_help(unflagged())
        .version(version)
        .disable_version_flag(true)
        .next_line_help(true)
        .max_term_width(100)
        .arg(
            Arg::new("version")
                .long("version")
                .short('V')
                .short_alias('v')
                .action(ArgAction::Version)
                .help("Print the version and the git commit"),
        )
        .args(settings::all().filter_map(|setting| Some(arg(setting, setting.flag?))))
        .subcommands([config, status(), doctor(), self::check()])
}

fn arg(setting: &Setting, flag: &'static str) -> Arg {
    let arg = Arg::new(flag)
        .long(flag)
        .aliases(setting.aliases)
        .action(ArgAction::Append)
        .value_name(setting.value)
        .help(help(setting))
        .help_heading(setting.heading)
        .global(true);
    match setting.shape {
        Shape::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Shape::Value | Shape::List => arg.allow_hyphen_values(setting.shape == Shape::List),
    }
}

/// The description in `--help`, and below it every other way to set it.
fn help(setting: &Setting) -> String {
    let aliases: Vec<_> = setting.aliases.iter().map(|alias| format!("--{alias}")).collect();
    let notes = [
        ("env", setting.env.join(", ")),
        ("file", setting.key.unwrap_or_default().to_owned()),
        ("also", aliases.join(", ")),
        ("default", setting.default.to_owned()),
    ];
    let notes = notes
        .iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(label, text)| format!("[{label}: {text}]"));
    format!("{}\n{}", setting.help, notes.collect::<Vec<_>>().join(" "))
}

/// The settings that have no flag.
fn unflagged() -> String {
    let mut text = String::from("Environment and file only:\n");
    for setting in settings::all().filter(|setting| setting.flag.is_none() && setting.is_in_help())
    {
        text.push_str(&format!("  {}\n          {}\n", setting.name(), setting.help));
    }
    text.push_str(
        "\nA flag takes precedence over the environment, the environment over the file, and the \
         file over the default.",
    );
    text
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
