//! The command line as clap knows it: flags from the table of settings, and the subcommands.

use clap::{Arg, ArgAction, Command, Subcommand};

use super::args::Action;
use crate::config::settings::{self, Setting, Shape};

/// The command line as clap knows it.
#[must_use]
pub fn command() -> Command {
    let version = concat!(env!("CARGO_PKG_VERSION"), "\ncommit: ", env!("GIT_COMMIT"));
    // The comment on `Action` would otherwise stand for what is said of the whole.
    Action::augment_subcommands(Command::new("gpu-device-plugin"))
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
