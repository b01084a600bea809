//! How log lines are written: to standard error, as text or JSON.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For a terminal.
    #[default]
    Text,
    /// For a collector: one JSON object a line.
    Json,
}

/// How log lines are written, and which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// The format.
    pub format: LogFormat,
    /// Which lines: a text that [`Targets`] parses; else those from the level info up.
    pub filter: String,
}

impl LogConfig {
    /// Starts to write log lines. It can be called once.
    pub fn start(&self) {
        let filter =
            self.filter.parse().unwrap_or_else(|_| Targets::new().with_default(Level::INFO));
        let registry = tracing_subscriber::registry().with(filter);
        let layer =
            tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
        match self.format {
            LogFormat::Text => {
                registry.with(layer.with_ansi(std::io::stderr().is_terminal())).init();
            }
            LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
        }
    }
}
