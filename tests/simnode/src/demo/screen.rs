//! What the terminal shows: numbered steps with their times, details below them, tables. Colour
//! only on a terminal, and not where NO_COLOR is set.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Where details begin.
const INDENT: &str = "    ";
/// Where a step's time ends.
const WIDTH: usize = 80;

/// The terminal, or whatever standard output is.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    colour: bool,
    steps: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
enum Style {
    Good,
    Bad,
    Strong,
    Faint,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: io::stdout().is_terminal() && !refused, steps: Arc::default() }
    }

    /// The first line.
    pub(super) fn title(&self, text: &str) {
        self.line(&self.paint(Style::Strong, text));
    }

    /// A line that is no step of the scenario.
    pub(super) fn note(&self, text: &str) {
        self.line(&self.paint(Style::Faint, text));
    }

    /// What takes a while, beside the output proper.
    pub(super) fn progress(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// A step that has happened.
    pub(super) fn step(&self, text: &str, time: Option<Duration>) {
        let number = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        let time = time.map(milliseconds).unwrap_or_default();
        self.line("");
        let (ok, strong) = (self.paint(Style::Good, "ok"), self.paint(Style::Strong, text));
        let room = WIDTH.saturating_sub("ok  1  ".len() + text.chars().count() + time.len());
        self.line(format!("{ok}  {number}  {strong}{:room$}{time}", "").trim_end());
    }

    /// A line that belongs to the step before.
    pub(super) fn detail(&self, text: &str) {
        self.line(&format!("{INDENT}{text}"));
    }

    /// Rows below a heading, each column as wide as its widest cell. The last cell of a row that is
    /// not well is shown in another colour.
    pub(super) fn table(&self, heading: &[&str], rows: &[(Vec<String>, bool)]) {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|(row, _)| row.get(column));
            cells.map(|cell| cell.chars().count()).chain([heading[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heading.len()).map(width).collect();
        let join = |cells: &[&str]| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            padded.collect::<Vec<_>>().join("  ")
        };
        self.detail(self.paint(Style::Faint, &join(heading)).trim_end());
        for (row, well) in rows {
            let cells: Vec<&str> = row.iter().map(String::as_str).collect();
            let Some((last, before)) = cells.split_last() else { continue };
            let last = self.paint(if *well { Style::Good } else { Style::Bad }, last);
            self.detail(&format!("{}  {last}", join(before)));
        }
    }

    /// A line of the plugin's log.
    pub(super) fn log(&self, line: &str) {
        self.line(&self.paint(Style::Faint, &format!("{INDENT}| {line}")));
    }

    /// Asks for a command, where somebody sits who can answer.
    pub(super) fn prompt(&self) {
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            let mut out = io::stdout().lock();
            let _ = write!(out, "> ").and_then(|()| out.flush());
        }
    }

    /// What did not happen.
    pub(crate) fn failure(&self, error: &anyhow::Error) {
        self.line("");
        self.line(&format!("{}: {error:#}", self.paint(Style::Bad, "failed")));
    }

    /// A reader that has gone is no reason to fail: the exit code still tells.
    fn line(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Good => "32",
            Style::Bad => "31",
            Style::Strong => "1",
            Style::Faint => "2",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Short times with a digit behind the point.
pub(super) fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    if milliseconds < 10.0 {
        format!("{milliseconds:.1} ms")
    } else {
        format!("{milliseconds:.0} ms")
    }
}
