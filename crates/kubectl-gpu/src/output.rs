//! What is printed: neither a reader that has gone nor a full disk is a reason to panic.

use std::io::{self, ErrorKind, IsTerminal, Write};

use serde::Serialize;
use serde_json::Value;
use status::{TableStyle, escaped, visible_json, yaml};

use crate::args::Format;

/// The narrowest terminal that text is broken for, in columns.
const NARROWEST: usize = 20;

/// Why the program ends before it is done.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Nobody reads what it prints.
    ReaderGone,
    /// What was asked for could not be had.
    Failed(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// The variables of the environment that say how to print.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// `TERM` is `dumb`, or `NO_COLOR` is set.
    pub(crate) without_colours: bool,
    /// `COLUMNS`.
    pub(crate) columns: Option<usize>,
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) format: Format,
    pub(crate) style: TableStyle,
}

impl Output {
    pub(crate) fn new(format: Format, environment: &Environment) -> Self {
        let terminal =
            || terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.into());
        let width = environment.columns.filter(|columns| *columns > 0).or_else(terminal);
        let colour = io::stdout().is_terminal() && !environment.without_colours;
        let width = width.map(|width: usize| width.max(NARROWEST));
        Self { format, style: TableStyle { wide: format == Format::Wide, colour, width } }
    }

    /// Whether it is for programs.
    pub(crate) fn is_data(&self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml)
    }

    /// Prints a value as YAML, or else as JSON. Nothing in it can control a terminal.
    pub(crate) fn print_data(&self, value: &impl Serialize) -> Result<(), Stop> {
        let failed = |error: serde_json::Error| Stop::Failed(error.to_string());
        if self.format == Format::Yaml {
            let value: Value = serde_json::to_value(value).map_err(failed)?;
            return print(&yaml(&value));
        }
        let text = serde_json::to_string_pretty(value).map_err(failed)?;
        print(&(visible_json(text) + "\n"))
    }
}

/// Prints a text to standard output, at once.
pub(crate) fn print(text: &str) -> Result<(), Stop> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Stop::ReaderGone,
        _ => Stop::Failed(format!("cannot write to standard output: {error}")),
    })
}

/// Prints a line to standard error. Where that fails nobody can be told.
pub(crate) fn note(line: &str) {
    let _ = io::stderr().lock().write_all(format!("{}\n", escaped(line)).as_bytes());
}
