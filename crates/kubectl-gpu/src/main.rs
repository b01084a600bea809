//! `kubectl gpu`: the GPUs of a cluster and what is wrong with them, from a laptop. Nothing of it
//! runs on a node, and it changes nothing.
//!
//! # Modules, in reading order
//!
//! - `args`: the command line.
//! - `api`: requests to the API server.
//! - `names`, `node`: what a Node says of its GPUs.
//! - `nodes`: all Nodes, page by page, and then each change.
//! - `item`: what is shown of them, and in which columns.
//! - `fleet`: the list, and then each change.
//! - `plugin_pod`, `one_node`: what the plugin of one node says.
//! - `complete`: completions for a shell.
//! - `output`: what is printed.

mod api;
mod args;
mod complete;
mod fleet;
mod item;
mod names;
mod node;
mod nodes;
mod one_node;
mod output;
mod plugin_pod;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use api::ApiServer;
use args::{Arguments, Command};
use item::{NodeItem, ProblemItem};
use one_node::OneNode;
use output::{Environment, Output, Stop, note};

/// The first argument of kubectl_complete-gpu. What follows may be half a command line.
const COMPLETE: &str = "__complete";

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1);
    let done = if words.next().is_some_and(|first| first == COMPLETE) {
        let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        output::print(&complete::complete(&words, &kubeconfigs()))
    } else {
        run(&Arguments::parse())
    };
    match done {
        Ok(()) | Err(Stop::ReaderGone) => ExitCode::SUCCESS,
        Err(Stop::Failed(why)) => {
            note(&format!("error: {why}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Stop> {
    let Arguments { node, command, view, plugin, access } = arguments;
    let output = Output::new(view.output, &environment());
    let one = match (node, command) {
        (Some(_), Some(_)) => {
            return Err("a node and a command: kubectl gpu NODE, or kubectl gpu doctor NODE"
                .to_owned()
                .into());
        }
        (Some(node), None) | (None, Some(Command::Doctor { node })) => Some(node),
        (None, _) => None,
    };
    if one.is_some() && view.watch {
        return Err("--watch is of the list of nodes or problems, and not of one node"
            .to_owned()
            .into());
    }
    let api = ApiServer::new(access, &kubeconfigs()).map_err(|error| error.to_string())?;
    if let Some(node) = one {
        let node = Arguments::node_name(node);
        let node = OneNode::find(&api, node, (plugin, access), &output)?;
        return if command.is_some() { node.doctor() } else { node.show() };
    }
    match command {
        Some(_) => fleet::show::<ProblemItem>(&api, view, &output),
        None => fleet::show::<NodeItem>(&api, view, &output),
    }
}

/// The files that $KUBECONFIG names.
fn kubeconfigs() -> Vec<PathBuf> {
    let variable = env::var_os("KUBECONFIG").unwrap_or_default();
    env::split_paths(&variable).filter(|path| !path.as_os_str().is_empty()).collect()
}

fn environment() -> Environment {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let columns = env::var("COLUMNS").ok();
    Environment {
        without_colours: is_set("NO_COLOR") || env::var_os("TERM").is_some_and(|of| of == "dumb"),
        columns: columns.and_then(|columns| columns.trim().parse().ok()),
    }
}
