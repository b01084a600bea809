//! The journal: one line per delivered event, and on request per call, for measuring latency from
//! outside.
//!
//! `FAKE_NVML_JOURNAL` names the file; `FAKE_NVML_JOURNAL_CALLS=1` adds the calls. Without it
//! nothing is done.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;

use crate::events::Delivery;
use crate::sys::monotonic_ns;

/// `<ns> event <seq> <uuid> <type> <data>`
pub(crate) fn event(delivery: &Delivery) {
    if let Some(journal) = journal() {
        journal.line(format_args!(
            "event {} {} {} {}",
            delivery.event.seq, delivery.event.gpu, delivery.event.event_type, delivery.event.data
        ));
    }
}

/// Whether calls are to be written.
pub(crate) fn wants_calls() -> bool {
    journal().is_some_and(|journal| journal.calls)
}

/// `<ns> call <function> <uuid or ->`
pub(crate) fn call(function: &str, uuid: Option<&str>) {
    if let Some(journal) = journal() {
        journal.line(format_args!("call {function} {}", uuid.unwrap_or("-")));
    }
}

struct Journal {
    file: File,
    calls: bool,
}

impl Journal {
    fn line(&self, text: std::fmt::Arguments<'_>) {
        // One write, so that lines of several threads and processes do not mix. A full disk is no
        // reason to fail the call.
        let line = format!("{} {text}\n", monotonic_ns());
        let _ = (&self.file).write_all(line.as_bytes());
    }
}

fn journal() -> Option<&'static Journal> {
    static JOURNAL: OnceLock<Option<Journal>> = OnceLock::new();
    JOURNAL
        .get_or_init(|| {
            let path = env::var_os("FAKE_NVML_JOURNAL").filter(|path| !path.is_empty())?;
            let calls = env::var_os("FAKE_NVML_JOURNAL_CALLS").is_some_and(|value| value == "1");
            match OpenOptions::new().append(true).create(true).open(&path) {
                Ok(file) => Some(Journal { file, calls }),
                Err(error) => {
                    eprintln!("fake-nvml: journal {}: {error}", path.display());
                    None
                }
            }
        })
        .as_ref()
}
