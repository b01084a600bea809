//! How log lines are written: to standard error, as text or JSON, by a thread of their own.

use std::io;
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

use super::json_lines::JsonLines;
use super::logfmt::{Logfmt, LogfmtFields};
use super::queue::LogQueue;

/// How long the end of the process waits for the last lines to be read.
const LAST_LINES: Duration = Duration::from_millis(200);

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// logfmt, for people and for collectors.
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
    /// Starts to write log lines, in colour if that is what standard error shows. It can be called
    /// once.
    ///
    /// Panics are logged too from then on: what Rust does by itself writes to standard error and
    /// waits for its reader.
    ///
    /// # Errors
    /// The operating system gives no thread to write them.
    pub fn start(&self, colour: bool) -> io::Result<LogGuard> {
        let filter =
            self.filter.parse().unwrap_or_else(|_| Targets::new().with_default(Level::INFO));
        let stderr = io::stderr();
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
            (LogFormat::Text, timestamps) => {
                layer.fmt_fields(LogfmtFields).event_format(Logfmt { timestamps }).boxed()
            }
            (LogFormat::Json, timestamps) => {
                // A line has the fields of its span; spans do not nest.
                let layer = layer.map_writer(JsonLines);
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
        panic = text.unwrap_or("with no message"),
        "a thread panicked"
    );
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

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
        let with_time = line(LogFormat::Text, true);
        assert!(with_time.starts_with("time=20") && with_time.contains("Z level="), "{with_time}");
        assert_eq!(line(LogFormat::Text, false), "level=INFO msg=\"ready\" gpu=3\n");
        assert!(line(LogFormat::Json, true).contains("\"timestamp\""));
        assert_eq!(
            line(LogFormat::Json, false),
            "{\"level\":\"INFO\",\"message\":\"ready\",\"gpu\":3}\n"
        );
    }

    #[test]
    fn no_value_begins_a_line_controls_the_terminal_or_passes_for_a_field() {
        let name = "H100\n level=ERROR \"x\u{1b}[2J\u{9b}31m\u{202e}\u{e0001}";
        let quoted = r#"H100\n level=ERROR \"x\u001b[2J\u009b31m\u202e\udb40\udc01"#;
        let text = written(LogFormat::Text, false, false, || {
            let _span = tracing::info_span!("allocate", pod = %name, n = 1).entered();
            tracing::info!(model = name, error = %name, "GPU {name} found");
        });
        let expected = format!(
            "level=INFO msg=\"GPU {quoted} found\" model=\"{quoted}\" error=\"{quoted}\" \
             pod=\"{quoted}\" n=1\n"
        );
        assert_eq!(text, expected);
        let json = written(LogFormat::Json, false, false, || tracing::info!(error = %name, "x"));
        let expected = format!("{{\"level\":\"INFO\",\"message\":\"x\",\"error\":\"{quoted}\"}}\n");
        assert_eq!(json, expected);
    }

    #[test]
    fn numbers_and_words_stand_alone_and_texts_in_quotes() {
        let (none, some) = (None::<u32>, Some(7));
        let text = written(LogFormat::Text, false, false, || {
            tracing::warn!(
                none, some, is = true, empty = %"", word = %"GPU-1:0", text = "word",
                words = %"a; b", sign = %"a=b", "x"
            );
        });
        assert_eq!(
            text,
            "level=WARN msg=\"x\" some=7 is=true empty=\"\" word=GPU-1:0 text=\"word\" \
             words=\"a; b\" sign=\"a=b\"\n"
        );
    }

    #[test]
    fn levels_and_keys_are_coloured_for_a_terminal() {
        let text = written(LogFormat::Text, false, true, || tracing::info!(gpu = 3, "ready"));
        assert!(text.contains("\u{1b}[32mINFO\u{1b}[0m"), "{text:?}");
        assert!(text.ends_with("\u{1b}[2mgpu=\u{1b}[0m3\n"), "{text:?}");
    }
}
