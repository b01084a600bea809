//! How the fields of a text line are written: what comes from outside can neither begin a line nor
//! control a terminal.

use std::fmt::{self, Debug, Write};

use status::Escaping;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// The field of the only text that has lines of its own. Who logs it escapes what is in it.
pub(super) const TABLE: &str = "table_of_gpus";

/// Writes fields as tracing does by itself, each value escaped.
#[derive(Debug, Clone, Copy)]
pub(super) struct EscapedFields;

impl<'w> FormatFields<'w> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = FieldWriter { writer, is_first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct FieldWriter<'w> {
    writer: Writer<'w>,
    is_first: bool,
    result: fmt::Result,
}

impl FieldWriter<'_> {
    fn write(&mut self, name: &str, value: &dyn Debug) -> fmt::Result {
        let is_first = std::mem::replace(&mut self.is_first, false);
        let writer = &mut self.writer;
        if name == TABLE {
            return write!(writer, "\n{value:?}");
        }
        if !is_first {
            writer.write_char(' ')?;
        }
        match (name, writer.has_ansi_escapes()) {
            ("message", _) => {}
            // Italic, and a dim sign (ECMA-48, SGR).
            (_, true) => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
            (_, false) => write!(writer, "{name}=")?,
        }
        write!(Escaping(writer), "{value:?}")
    }
}

impl Visit for FieldWriter<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if self.result.is_ok() {
            self.result = self.write(field.name(), value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }
}
