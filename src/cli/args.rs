//! What the command line may say: flags out of the table of settings, and the subcommands. Values
//! are taken as they stand, so that a mistake in one is told together with all others.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::Sources;
use crate::config::settings::{self, Setting, Shape};
use crate::doctor::check::Rule;

/// What the program is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Serve the kubelet.
    Serve,
    /// `config check FILE`: tell every mistake in a file.
    ConfigCheck,
    /// `config show`: print the configuration in force.
    ConfigShow,
    /// `status`: print what a running daemon knows.
    Status(Form),
    /// `check`: answer one question in one line.
    Check(Check),
    /// `doctor`: tell why pods do not get GPUs.
    Doctor(Doctor),
}

/// How `status` prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
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

/// What `check` is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// The question.
    pub rule: Rule,
    /// The most bytes of the answer.
    pub longest: usize,
}

/// What `doctor` is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doctor {
    /// As JSON, in place of text.
    pub json: bool,
    /// Where the host's root is mounted; `None`: it is found.
    pub host_root: Option<PathBuf>,
    /// Check the driver and nothing else, for the doctor that has started this process.
    pub survey: bool,
}

/// The flag that makes a [`Doctor`] survey: no person types it.
pub const SURVEY: &str = "ask-driver";

/// A command line that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// What to do.
    pub action: Action,
    /// The flags, and the environment.
    pub sources: Sources,
}

impl Invocation {
    /// Understands `arguments`, the first being the program's name, in `environment`. The error
    /// prints itself: it may be a mistake, the help or the version.
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
                    "doctor" => Action::Doctor(Doctor::of(&mut command)),
                    "status" => Action::Status(Form::of(&mut command)),
                    "check" => Action::Check(Check::of(&mut command)),
                    _ => of_config(command, &mut sources),
                }
            }
        };
        Ok(Self { action, sources })
    }

    /// Takes the flags of another command line where this one has none: those of the daemon beside
    /// which it runs. What is no command line of ours has none.
    pub fn fall_back_on(&mut self, arguments: impl IntoIterator<Item = OsString>) {
        if let Ok(other) = Self::parse(arguments, |_| None) {
            self.sources.add_missing_flags(other.sources);
        }
    }

    /// The command line and environment of this process.
    pub fn of_process() -> Result<Self, clap::Error> {
        let variable =
            |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self::parse(std::env::args_os(), variable)
    }
}

impl Form {
    const WORDS: [(&'static str, Self); 4] =
        [("table", Self::Table), ("wide", Self::Wide), ("json", Self::Json), ("yaml", Self::Yaml)];

    fn of(matches: &mut ArgMatches) -> Self {
        chosen(&Self::WORDS, matches.remove_one("output"))
    }
}

impl Check {
    /// What node problem detector keeps of a line unless it is told otherwise (max_output_length).
    const LONGEST: &'static str = "80";

    fn of(matches: &mut ArgMatches) -> Self {
        let longest = matches.remove_one::<u16>("max-output").map_or(usize::MAX, usize::from);
        Self { rule: chosen(&Rule::WORDS, matches.remove_one("RULE")), longest }
    }
}

/// What a word stands for; clap has let none but these pass.
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
        .arg(output.value_parser(Form::WORDS.map(|(word, _)| word)).help("How it is told"))
}

fn check() -> Command {
    let rule =
        Arg::new("RULE").default_value("all").value_parser(Rule::WORDS.map(|(word, _)| word));
    let longest =
        Arg::new("max-output").long("max-output").value_name("BYTES").default_value(Check::LONGEST);
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
        .arg(longest.value_parser(clap::value_parser!(u16)).help("The most bytes of the line"))
}

impl Doctor {
    fn of(matches: &mut ArgMatches) -> Self {
        Self {
            json: matches.remove_one::<String>("output").is_some_and(|format| format == "json"),
            host_root: matches.remove_one("host-root"),
            survey: matches.get_flag(SURVEY),
        }
    }
}

fn of_config(mut config: ArgMatches, sources: &mut Sources) -> Action {
    let Some((name, mut command)) = config.remove_subcommand() else { return Action::ConfigShow };
    take_flags(&mut command, sources);
    if let Ok(Some(file)) = command.try_remove_one::<PathBuf>("FILE") {
        sources.set_config_file(file.to_string_lossy().into_owned());
    }
    if name == "check" { Action::ConfigCheck } else { Action::ConfigShow }
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
        .about("Tell why pods on this node do not get GPUs, and what mends it; nothing is changed")
        .after_help(
            "Exit code: 0 all is well, 1 something keeps GPUs from pods, 2 not all could be \
            checked.",
        )
        .arg(output.default_value("text").help("How the findings are told"))
        .arg(root.help(
            "Where the root of the host is mounted; found by itself where the driver root is at or \
                below it",
        ))
        .arg(Arg::new(SURVEY).long(SURVEY).hide(true).action(ArgAction::SetTrue))
}

/// The command line as clap knows it.
#[must_use]
pub fn command() -> Command {
    let version = concat!(env!("CARGO_PKG_VERSION"), "\ncommit: ", env!("GIT_COMMIT"));
    let check = Command::new("check")
        .about("Tell every mistake and warning in a config file, and start nothing")
        .arg(
            Arg::new("FILE")
                .required(true)
                .value_parser(clap::value_parser!(PathBuf))
                .help("The file to check"),
        );
    let show = Command::new("show")
        .about("Print the configuration in force as YAML, with the origin of each value");
    let config = Command::new("config")
        .about("Check or show the configuration")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([check, show]);
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

/// What `--help` says: the meaning, and below it every other way to set it.
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

/// What can be set, but by no flag.
fn unflagged() -> String {
    let mut text = String::from("Environment and file only:\n");
    for setting in settings::all().filter(|setting| setting.flag.is_none() && setting.is_in_help())
    {
        text.push_str(&format!("  {}\n          {}\n", setting.name(), setting.help));
    }
    text.push_str(
        "\nA flag counts before the environment, the environment before the file, the file before \
            the default.",
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

/// `-flag` as `--flag`: the command line that this one takes the place of knows no difference.
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
