//! The command line as clap knows it: flags from the table of settings, and the subcommands.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};

use super::args::{CheckArgs, OutputFormat, SURVEY};
use crate::config::settings::{self, Setting, Shape};
use crate::doctor::check::Rule;
use crate::nvml;

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
        .subcommands([config, status(), doctor(), self::check(), list_gpus()])
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

/// What the daemon runs to see whether a new initialisation of NVML lists more GPUs.
fn list_gpus() -> Command {
    let path = |name| Arg::new(name).value_parser(clap::value_parser!(PathBuf));
    Command::new(nvml::look::SUBCOMMAND)
        .hide(true)
        .args([path("driver-root").required(true), path("library")])
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
