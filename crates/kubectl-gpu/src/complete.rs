//! Completions for a shell: kubectl runs `kubectl_complete-gpu` with the words after `kubectl gpu`
//! and reads a candidate a line, then what to do with them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};

use crate::api::ApiServer;
use crate::args::{AccessFlags, Arguments};
use crate::nodes::NodeSource;

/// How long the API server may take: somebody waits at the keyboard.
const DEADLINE: Duration = Duration::from_secs(2);
/// That no names of files follow (cobra's ShellCompDirectiveNoFileComp).
const NO_FILES: &str = ":4\n";
/// That they do (ShellCompDirectiveDefault).
const FILES: &str = ":0\n";

/// The candidates for the last of these words.
pub(crate) fn complete(words: &[String], files: &[PathBuf]) -> String {
    let (last, before) = words.split_last().map_or(("", words), |(last, before)| (&**last, before));
    let mut command = Arguments::command();
    command.build();
    let flag_before = before.last().and_then(|word| argument(&command, word));
    if let Some(argument) = flag_before.filter(|argument| argument.get_action().takes_values()) {
        let values = argument.get_possible_values();
        let names = values.iter().map(|value| value.get_name().to_owned());
        let end = if argument.get_id() == "kubeconfig" { FILES } else { NO_FILES };
        return lines(names, last) + end;
    }
    if last.starts_with('-') {
        let flags = command.get_arguments().filter_map(|argument| argument.get_long());
        return lines(flags.map(|flag| format!("--{flag}")), last) + NO_FILES;
    }
    let places: Vec<&String> = places(&command, before);
    let is_first = places.is_empty();
    if !is_first && (places.len() > 1 || *places[0] != "doctor") {
        return NO_FILES.to_owned();
    }
    let commands = command.get_subcommands().filter(|of| is_first && !of.is_hide_set());
    let commands: Vec<String> = commands.map(|of| of.get_name().to_owned()).collect();
    lines(commands.into_iter().chain(nodes(before, files)), last) + NO_FILES
}

/// Those words that are neither a flag nor its value.
fn places<'a>(command: &clap::Command, words: &'a [String]) -> Vec<&'a String> {
    let mut places = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if !word.starts_with('-') {
            places.push(word);
        } else if argument(command, word).is_some_and(|of| of.get_action().takes_values()) {
            words.next();
        }
    }
    places
}

/// The flag that a word is; `None` also where it has its value in it.
fn argument<'a>(command: &'a clap::Command, word: &str) -> Option<&'a clap::Arg> {
    command.get_arguments().find(|argument| {
        let long = argument.get_long().is_some_and(|long| word == format!("--{long}"));
        long || argument.get_short().is_some_and(|short| word == format!("-{short}"))
    })
}

/// The names of nodes with GPUs, of the cluster that the words name; none if they cannot be had.
fn nodes(words: &[String], files: &[PathBuf]) -> Vec<String> {
    let program = "kubectl-gpu".to_owned();
    let command = Arguments::command().ignore_errors(true);
    let matches = command.try_get_matches_from(std::iter::once(&program).chain(words));
    let access = matches.and_then(|matches| AccessFlags::from_arg_matches(&matches));
    let Ok(access) = access else { return Vec::new() };
    let access = AccessFlags { request_timeout: DEADLINE, ..access };
    let Ok(api) = ApiServer::new(&access, files) else { return Vec::new() };
    let Ok(list) = (NodeSource { api: &api, selector: "" }).list() else { return Vec::new() };
    list.nodes.into_iter().filter(|node| node.has_gpus()).map(|node| node.name).collect()
}

fn lines(names: impl Iterator<Item = String>, begin: &str) -> String {
    names.filter(|name| name.starts_with(begin)).map(|name| name + "\n").collect()
}
