//! Log lines in JSON that cannot control the terminal that they are read on.

use std::io::{self, Write};

use status::visible_json;
use tracing_subscriber::fmt::MakeWriter;

/// Writers of lines in JSON. Each call of [`Write::write`] is one line.
#[derive(Debug)]
pub(super) struct JsonLines<M>(pub(super) M);

/// A writer of one line.
#[derive(Debug)]
pub(super) struct JsonLine<W>(W);

impl<'w, M: MakeWriter<'w>> MakeWriter<'w> for JsonLines<M> {
    type Writer = JsonLine<M::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        JsonLine(self.0.make_writer())
    }
}

impl<W: Write> Write for JsonLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match str::from_utf8(line) {
            Ok(text) => self.0.write_all(visible_json(text.to_owned()).as_bytes())?,
            Err(_) => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
