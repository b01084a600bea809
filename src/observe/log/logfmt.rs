//! Text lines in logfmt: `time=... level=INFO msg="..." key=value`, one for each record, the fields
//! of its span last.
//!
//! A value is in quotes, in JSON's way, unless it is a number or a word; texts of the program
//! always are. So nothing that comes from outside can end a line, control a terminal or pass for a
//! field.

use std::fmt::{self, Debug};

use status::is_invisible;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes a record as a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Logfmt {
    /// Whether it begins with the time.
    pub(super) timestamps: bool,
}

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.timestamps {
            write_key(&mut writer, "time")?;
            SystemTime.format_time(&mut writer)?;
            writer.write_char(' ')?;
        }
        write_key(&mut writer, "level")?;
        write_level(&mut writer, *event.metadata().level())?;
        context.format_fields(writer.by_ref(), event)?;
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                writer.write_str(&fields.fields)?;
            }
        }
        writer.write_char('\n')
    }
}

fn write_level(writer: &mut Writer<'_>, level: Level) -> fmt::Result {
    // ECMA-48, SGR.
    let colour = match level {
        Level::ERROR => "31",
        Level::WARN => "33",
        Level::INFO => "32",
        _ => "34",
    };
    match writer.has_ansi_escapes() {
        true => write!(writer, "\x1b[{colour}m{level}\x1b[0m"),
        false => write!(writer, "{level}"),
    }
}

fn write_key(writer: &mut Writer<'_>, key: &str) -> fmt::Result {
    match writer.has_ansi_escapes() {
        true => write!(writer, "\x1b[2m{key}=\x1b[0m"),
        false => write!(writer, "{key}="),
    }
}

/// Writes fields, each with a space before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogfmtFields;

impl<'w> FormatFields<'w> for LogfmtFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = FieldWriter { writer, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct FieldWriter<'w> {
    writer: Writer<'w>,
    result: fmt::Result,
}

impl FieldWriter<'_> {
    fn write(&mut self, name: &str, text: &str, in_quotes: bool) -> fmt::Result {
        self.writer.write_char(' ')?;
        write_key(&mut self.writer, name)?;
        match in_quotes {
            true => write_quoted(&mut self.writer, text),
            false => self.writer.write_str(text),
        }
    }
}

impl Visit for FieldWriter<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        let name = if field.name() == "message" { "msg" } else { field.name() };
        let in_quotes = name == "msg" || !is_word(&text);
        if self.result.is_ok() {
            self.result = self.write(name, &text, in_quotes);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if self.result.is_ok() {
            self.result = self.write(field.name(), value, true);
        }
    }
}

/// Whether a text can stand without quotes.
fn is_word(text: &str) -> bool {
    let is_plain =
        |c: char| !c.is_whitespace() && !matches!(c, '"' | '=' | ';' | '\\') && !is_invisible(c);
    !text.is_empty() && text.chars().all(is_plain)
}

fn write_quoted(writer: &mut Writer<'_>, text: &str) -> fmt::Result {
    writer.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(writer, "\\{c}")?,
            '\n' => writer.write_str("\\n")?,
            '\r' => writer.write_str("\\r")?,
            '\t' => writer.write_str("\\t")?,
            c if is_invisible(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            c => writer.write_char(c)?,
        }
    }
    writer.write_char('"')
}
