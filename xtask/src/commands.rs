//! The command lines of the programs of a release, as clap knows them: manual pages and completions
//! are made of them.

use clap::{Arg, Command, CommandFactory};

/// All programs.
pub(crate) fn all() -> Vec<Command> {
    vec![
        gpu_device_plugin::cli::command(),
        gpu_node_agent::args::Args::command(),
        hook(cdi_hook::USAGE),
    ]
}

/// The hook program has no clap: what it says of itself is read.
fn hook(usage: &'static str) -> Command {
    let entries = usage.lines().filter_map(|line| line.strip_prefix("  "));
    let (common, hooks): (Vec<&str>, Vec<&str>) =
        entries.partition(|entry| entry.starts_with("--"));
    let command = Command::new("gpu-cdi-hook")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Changes a container with an NVIDIA GPU while a container runtime makes it")
        .long_about(
            "Changes a container with an NVIDIA GPU while a container runtime makes it. The \
             runtime calls it, by the hooks of a CDI specification, with the state of the \
             container on standard input. Hooks and flags are those of NVIDIA's nvidia-cdi-hook.",
        )
        .disable_help_subcommand(true)
        .subcommand_required(true);
    hooks.into_iter().fold(command, |command, entry| {
        let (name, own) = entry.split_once(' ').unwrap_or((entry, ""));
        let hook = Command::new(name).about(format!("The hook {name}")).args(flags(own));
        command.subcommand(hook.args(common.iter().flat_map(|entry| flags(entry))))
    })
}

/// The flags in `--link TARGET::PATH ...`, or in `--container-spec FILE  what it does`.
fn flags(entry: &'static str) -> Vec<Arg> {
    let flags = entry.split("--").skip(1).filter_map(|flag| flag.trim().split_once(' '));
    let flags = flags.map(|(name, rest)| {
        let (value, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let arg = Arg::new(name).long(name).value_name(value);
        match rest.trim() {
            "" => arg,
            "..." => arg.action(clap::ArgAction::Append),
            help => arg.help(help),
        }
    });
    flags.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_lines_are_those_of_the_programs() {
        let all = all();
        all.iter().for_each(|command| command.clone().debug_assert());
        let names: Vec<&str> = all.iter().map(Command::get_name).collect();
        let executables = crate::release::EXECUTABLES.map(|(_, name)| name);
        assert_eq!(names, executables);
    }

    #[test]
    fn each_hook_has_the_flags_that_the_program_takes() {
        let command = hook(cdi_hook::USAGE);
        let mut checked = 0;
        for hook in command.get_subcommands() {
            let mut words = vec!["gpu-cdi-hook", hook.get_name()];
            for arg in hook.get_arguments() {
                let flag = arg.get_long().unwrap();
                let value = match flag {
                    "link" => "libcuda.so.1::/usr/lib64/libcuda.so",
                    "mode" => "755",
                    "host-driver-version" => "580.95.05",
                    "limit" => "0000:1b:00.0=1",
                    _ => "/a",
                };
                words.extend([format!("--{flag}").leak(), value]);
                checked += 1;
            }
            let parsed = cdi_hook::Command::parse(words.iter().map(Into::into));
            assert!(matches!(parsed, Ok(cdi_hook::Command::Hook(..))), "{words:?}: {parsed:?}");
        }
        assert_eq!(command.get_subcommands().count(), 7);
        assert!(checked >= 13, "{checked} flags");
        let spec = command.get_subcommands().next().unwrap().get_arguments().last().unwrap();
        let help = spec.get_help().unwrap().to_string();
        assert!(help.starts_with("reads the state from a file"), "{help}");
    }
}
