//! What standard output can show.

use std::io::{self, IsTerminal};

/// The narrowest terminal that text is broken for, in columns.
const NARROWEST: usize = 20;

/// Whether standard output shows colours: a terminal that is not dumb, unless a person wants none
/// (<https://no-color.org>).
pub(super) fn has_colours() -> bool {
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    io::stdout().is_terminal() && variable("NO_COLOR").is_empty() && variable("TERM") != "dumb"
}

/// The columns of standard output: those of COLUMNS, or of the terminal; `None`: no terminal.
pub(super) fn width() -> Option<usize> {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse().ok());
    let terminal =
        || terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
    columns.filter(|columns| *columns > 0).or_else(terminal).map(|width| width.max(NARROWEST))
}
