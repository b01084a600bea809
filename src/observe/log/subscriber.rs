//! How log lines are written: to standard error, as text or JSON, by a thread of their own.

use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tracing::{Level, Subscriber, error, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::fields::EscapedFields;
use super::queue::LogQueue;

/// How long the end of the process waits for the last lines to be read.
const LAST_LINES: Duration = Duration::from_millis(200);

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

/// To be kept until the process ends: dropping it waits for a moment until the lines up to then are
/// written.
#[derive(Debug)]
#[must_use = "the last lines of the process are lost without it"]
pub struct LogGuard(Arc<LogQueue>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush(LAST_LINES);
    }
}

impl LogConfig {
    /// Starts to write log lines. It can be called once.
    ///
    /// Panics are logged too from then on: what Rust does by itself writes to standard error and
    /// waits for its reader.
    ///
    /// # Errors
    /// The operating system gives no thread to write them.
    pub fn start(&self) -> io::Result<LogGuard> {
        let filter =
            self.filter.parse().unwrap_or_else(|_| Targets::new().with_default(Level::INFO));
        let stderr = io::stderr();
        let colour = stderr.is_terminal();
        let report = |lines: u64, reason: &str| {
            warn!(lines, "{lines} log lines were dropped because {reason}");
        };
        let queue = LogQueue::start(stderr, report)?;
        tracing_subscriber::registry().with(filter).with(self.layer(queue.clone(), colour)).init();
        std::panic::set_hook(Box::new(log_panic));
        Ok(LogGuard(queue))
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
            (LogFormat::Text, true) => layer.fmt_fields(EscapedFields).boxed(),
            (LogFormat::Text, false) => layer.fmt_fields(EscapedFields).without_time().boxed(),
            (LogFormat::Json, timestamps) => {
                // A line has the fields of its span; spans do not nest.
                let json = layer.with_ansi(false).json().flatten_event(true).with_span_list(false);
                if timestamps { json.boxed() } else { json.without_time().boxed() }
            }
        }
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let place = panic.location().map(ToString::to_string);
    let thread = thread::current();
    error!(
        thread = thread.name().unwrap_or("unnamed"),
        place,
        "a thread panicked: {}",
        text.unwrap_or("with no message")
    );
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;
    use crate::observe::log::fields::TABLE;

    /// The log line of a message.
    fn line(format: LogFormat, timestamps: bool) -> String {
        written(format, timestamps, false, || tracing::info!(gpu = 3, "ready"))
    }

    /// What is written when this is logged.
    fn written(format: LogFormat, timestamps: bool, colour: bool, log: impl FnOnce()) -> String {
        let mut file = tempfile::tempfile().unwrap();
        let config = LogConfig { format, timestamps, ..LogConfig::default() };
        let writer = Arc::new(file.try_clone().unwrap());
        let subscriber = tracing_subscriber::registry().with(config.layer(writer, colour));
        tracing::subscriber::with_default(subscriber, log);
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
    #[test]
    fn no_value_begins_a_line_or_controls_the_terminal() {
        let name = "H100\n INFO forged\u{1b}[2J\u{9b}31m\u{202e}";
        let escaped = "H100\\n INFO forged\\u{1b}[2J\\u{9b}31m\\u{202e}";
        let text = written(LogFormat::Text, false, false, || {
            let _span = tracing::info_span!("allocate", pod = %name).entered();
            tracing::info!(model = name, error = %name, "GPU {name} found");
        });
        let expected = format!(
            " INFO allocate{{pod={escaped}}}: GPU {escaped} found model=\"{escaped}\" \
             error={escaped}\n"
        );
        assert_eq!(text, expected);
        let json = written(LogFormat::Json, false, false, || tracing::info!(error = %name, "x"));
        assert!(json.matches('\n').count() == 1 && !json.contains('\u{1b}'), "{json}");
    }

    #[test]
    fn a_table_is_below_its_line_and_names_of_fields_are_coloured_for_a_terminal() {
        assert_eq!(TABLE, "table_of_gpus");
        let table = "GPU  model\n0    H100";
        let log = || tracing::info!(gpus = 1, table_of_gpus = %table, "the GPUs");
        let text = written(LogFormat::Text, false, false, log);
        assert_eq!(text, " INFO the GPUs gpus=1\nGPU  model\n0    H100\n");
        let text = written(LogFormat::Text, false, true, || tracing::info!(gpu = 3, "ready"));
        assert!(text.ends_with("ready \u{1b}[3mgpu\u{1b}[0m\u{1b}[2m=\u{1b}[0m3\n"), "{text:?}");
    }
}
