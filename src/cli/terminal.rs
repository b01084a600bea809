//! What standard output and standard error can show to a person.

use std::io::{self, IsTerminal};

/// The narrowest terminal that text is broken for, in columns.
const NARROWEST: usize = 20;

/// How a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Terminal {
    /// By another program, or later.
    None,
    /// On a terminal that shows text, line after line, and nothing else (`TERM=dumb`).
    Dumb,
    /// On a terminal that a person wants no colours on (<https://no-color.org>).
    Plain,
    /// On a terminal with colours.
    Colour,
}

impl Terminal {
    /// How this stream is read, by the environment of the process.
    pub(super) fn of(stream: &impl IsTerminal) -> Self {
        let variable = |name| std::env::var_os(name).unwrap_or_default();
        match () {
            () if !stream.is_terminal() => Self::None,
            () if variable("TERM") == "dumb" => Self::Dumb,
            () if !variable("NO_COLOR").is_empty() => Self::Plain,
            () => Self::Colour,
        }
    }

    /// Whether it shows colours.
    pub(super) fn has_colours(self) -> bool {
        self == Self::Colour
    }
}

/// Whether standard output shows colours.
pub(super) fn has_colours() -> bool {
    Terminal::of(&io::stdout()).has_colours()
}

/// Whether standard error, on which the log is, shows colours.
#[must_use]
pub fn log_has_colours() -> bool {
    Terminal::of(&io::stderr()).has_colours()
}

/// The columns of standard output: those of COLUMNS, or of the terminal; `None`: no terminal.
pub(super) fn width() -> Option<usize> {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse().ok());
    let terminal =
        || terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
    columns.filter(|columns| *columns > 0).or_else(terminal).map(|width| width.max(NARROWEST))
}
