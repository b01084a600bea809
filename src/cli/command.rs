//! The command line as clap knows it: flags from the table of settings, and the subcommands.

use clap::{Arg, ArgAction, Command, Subcommand};

use super::args::Action;
use crate::config::settings::{self, Setting, Shape};

/// The flags of the plugin that the help of each subcommand shows, since they are for it too. It
/// takes all others as well, so that a command line of the plugin needs no change.
const SHOWN: [(&str, &[&str]); 13] = [
    ("config show", &["config-file"]),
    ("cdi generate", &["config-file", "dev-root", "driver-root", "driver-root-ctr-path"]),
    ("cdi list", &["cdi-spec-dir", "config-file"]),
    ("cdi validate", &["cdi-spec-dir", "config-file"]),
    ("status", STATUS),
    ("check", STATUS),
    ("doctor", &["config-file", "driver-root-ctr-path", "http-address", "state-dir"]),
    ("cleanup", &["cdi-hook-dir", "cdi-spec-dir", "pod-resources-socket", "state-dir"]),
    ("clear", &["state-dir"]),
    ("release", &["state-dir"]),
    ("take-up", &["state-dir"]),
    ("mps-control-daemon", &["driver-root-ctr-path", "mps-dir", "state-dir"]),
    ("mps-control-daemon mount-shm", &["mps-dir"]),
];
/// The flags that -h shows: those that most nodes need.
const COMMON: [&str; 12] = [
    "config-file",
    "device-id-strategy",
    "device-list-strategy",
    "devices",
    "driver-root-ctr-path",
    "fail-on-init-error",
    "http-address",
    "log-format",
    "log-level",
    "mig-strategy",
    "pass-device-specs",
    "state-dir",
];
/// Where the running plugin is asked.
const STATUS: &[&str] = &["http-address", "state-dir"];
/// Subcommands that take none of the flags.
const WITHOUT_FLAGS: [&str; 4] = ["completions", "config reference", "version", "xid"];

/// The version as it is printed.
#[must_use]
pub fn version() -> String {
    format!("gpu-device-plugin {VERSION}\n")
}

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\ncommit: ", env!("GIT_COMMIT"));

/// The command line as clap knows it.
#[must_use]
pub fn command() -> Command {
    with_daemon_flags(true)
}

/// The same without what the help says of the flags, for a command line that does not ask for it:
/// the start of the daemon waits for it.
pub(super) fn command_without_help() -> Command {
    with_daemon_flags(false)
}

fn with_daemon_flags(help: bool) -> Command {
    // The comment on `Action` would otherwise stand for what is said of the whole.
    let command = Action::augment_subcommands(Command::new("gpu-device-plugin"))
        .about(
            "Offers a node's NVIDIA GPUs to the kubelet. Without a subcommand it serves until it \
             is stopped.",
        )
        .after_help("--help has all flags, with environment variables, file keys and defaults.")
        .version(VERSION)
        .disable_version_flag(true)
        .max_term_width(100)
        .arg(
            Arg::new("version")
                .long("version")
                .short('V')
                .short_alias('v')
                .action(ArgAction::Version)
                .help("Print the version and the git commit"),
        )
        .args(flags(help));
    let command = if help { command.after_long_help(unflagged()) } else { command };
    // Not before they are needed: all of them for each would be half of the time until Register.
    command.mut_subcommands(|subcommand| subcommand.defer(with_flags))
}

/// The same subcommand with the flags of the plugin, and so those below it.
fn with_flags(subcommand: Command) -> Command {
    let name = subcommand.get_name().to_owned();
    let below = |below: Command| {
        let path = format!("{name} {}", below.get_name());
        with_flags_of(below, &path)
    };
    with_flags_of(subcommand.mut_subcommands(below), &name)
}

/// `path` are the words that lead to it.
fn with_flags_of(subcommand: Command, path: &str) -> Command {
    if WITHOUT_FLAGS.contains(&path) {
        return subcommand;
    }
    let shown = SHOWN.iter().find(|(known, _)| *known == path).map_or(&[][..], |of| of.1);
    let of_subcommand = |arg: Arg| {
        let is_shown = shown.contains(&arg.get_id().as_str());
        if is_shown { arg.hide_short_help(false) } else { arg.hide(true) }
    };
    let args: Vec<Arg> = flags(true).map(of_subcommand).collect();
    subcommand.args(args).max_term_width(100)
}

/// The flags of the plugin, with what the help says of them or without.
fn flags(help: bool) -> impl Iterator<Item = Arg> {
    settings::all().filter_map(move |setting| {
        let arg = arg(setting, setting.flag?);
        Some(if help { described(setting, arg) } else { arg })
    })
}

fn arg(setting: &Setting, flag: &'static str) -> Arg {
    let arg = Arg::new(flag)
        .long(flag)
        .aliases(setting.aliases)
        .action(ArgAction::Append)
        .value_name(setting.value);
    match setting.shape {
        Shape::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Shape::Value | Shape::List => arg.allow_hyphen_values(setting.shape == Shape::List),
    }
}

/// The same with what the help says of it.
fn described(setting: &Setting, arg: Arg) -> Arg {
    let is_common = COMMON.contains(&arg.get_id().as_str());
    arg.help(short(setting.help))
        .long_help(long(setting))
        .hide_short_help(!is_common)
        .help_heading(setting.heading)
}

/// The beginning of a description that says what the setting is, without what its values mean.
fn short(help: &str) -> &str {
    let ends = [": ", "; ", ". "].iter().filter_map(|mark| help.find(mark));
    let end = ends.min().unwrap_or(help.len());
    help.get(..end).unwrap_or(help).trim_end_matches('.')
}

/// The whole description, and below it every other way to set it.
fn long(setting: &Setting) -> String {
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
