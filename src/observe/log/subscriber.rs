//! How log lines are written: to standard error, as text or JSON.

use std::io::IsTerminal;

use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
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
    /// Whether they have the time.
    pub timestamps: bool,
    /// Which lines: a text that [`Targets`] parses; else those from the level info up.
    pub filter: String,
}

impl LogConfig {
    /// Starts to write log lines. It can be called once.
    pub fn start(&self) {
        let filter =
            self.filter.parse().unwrap_or_else(|_| Targets::new().with_default(Level::INFO));
        let layer = self.layer(std::io::stderr, std::io::stderr().is_terminal());
        tracing_subscriber::registry().with(filter).with(layer).init();
    }

    fn layer<S>(
        &self,
        writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
        colour: bool,
    ) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: Subscriber + for<'s> LookupSpan<'s>,
    {
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(writer)
            .with_target(false)
            .with_ansi(colour);
        match (self.format, self.timestamps) {
            (LogFormat::Text, true) => layer.boxed(),
            (LogFormat::Text, false) => layer.without_time().boxed(),
            (LogFormat::Json, timestamps) => {
                // A line has the fields of its span; spans do not nest.
                let json = layer.with_ansi(false).json().flatten_event(true).with_span_list(false);
                if timestamps { json.boxed() } else { json.without_time().boxed() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};
    use std::sync::Arc;

    use super::*;

    /// The log line of a message.
    fn line(format: LogFormat, timestamps: bool) -> String {
        let mut file = tempfile::tempfile().unwrap();
        let config = LogConfig { format, timestamps, ..LogConfig::default() };
        let writer = Arc::new(file.try_clone().unwrap());
        let subscriber = tracing_subscriber::registry().with(config.layer(writer, false));
        tracing::subscriber::with_default(subscriber, || tracing::info!(gpu = 3, "ready"));
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn lines_have_the_time_unless_it_is_turned_off() {
        let year = |text: &str| text.get(..2) == Some("20");
        assert!(year(&line(LogFormat::Text, true)));
        assert_eq!(line(LogFormat::Text, false), " INFO ready gpu=3\n");
        assert!(line(LogFormat::Json, true).contains("\"timestamp\""));
        assert_eq!(
            line(LogFormat::Json, false),
            "{\"level\":\"INFO\",\"message\":\"ready\",\"gpu\":3}\n"
        );
    }
}
