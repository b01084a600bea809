//! What a stream can show to a person.

use std::env;
use std::io::IsTerminal;

/// How a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
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
    #[must_use]
    pub fn of(stream: &impl IsTerminal) -> Self {
        let variable = |name| env::var_os(name).unwrap_or_default();
        match () {
            () if !stream.is_terminal() => Self::None,
            () if variable("TERM") == "dumb" => Self::Dumb,
            () if !variable("NO_COLOR").is_empty() => Self::Plain,
            () => Self::Colour,
        }
    }

    /// Whether it shows colours.
    #[must_use]
    pub fn has_colours(self) -> bool {
        self == Self::Colour
    }
}
