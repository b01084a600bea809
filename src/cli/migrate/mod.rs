//! `migrate`: values of the Helm chart from the values or manifests of NVIDIA's plugin, with
//! everything that will be different.

mod container;
mod flags;
mod manifests;
mod migration;
#[cfg(test)]
mod tests;
mod values;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use super::{USAGE, print, print_error};
use crate::config;
use crate::host::file::{self, Links};
use migration::Migration;

/// Most bytes of one input: a rendered chart has about 20 KiB.
const MOST_BYTES: usize = 1 << 20;
/// Most documents of all inputs together.
const MOST_DOCUMENTS: usize = 256;

/// Reads the files, or standard input where there are none or one is `-`, and prints what they
/// become.
pub fn migrate(files: &[PathBuf]) -> ExitCode {
    match read_all(files).and_then(|documents| migrated(&documents)) {
        Ok(text) => print(&text, 0),
        Err(error) => {
            print_error(&error);
            ExitCode::from(USAGE)
        }
    }
}

/// The values for what is in `documents`: the objects of a cluster, or values of NVIDIA's chart.
fn migrated(documents: &[Value]) -> Result<String, String> {
    let is_object = |value: &&Value| value.get("kind").is_some_and(Value::is_string);
    let objects: Vec<&Value> = documents.iter().filter(is_object).collect();
    if documents.is_empty() {
        return Err("there is nothing to read: give the values or the manifests of NVIDIA's \
                    plugin, as files or on standard input"
            .to_owned());
    }
    let migration = match objects.len() {
        0 => values::of_values(documents)?,
        count if count == documents.len() => manifests::of_objects(&objects)?,
        _ => {
            return Err("some of the documents are objects (with a kind) and some are values: \
                        give either the values or the manifests"
                .to_owned());
        }
    };
    Ok(render(migration))
}

/// The differences as comments, and the values.
fn render(migration: Migration) -> String {
    let Migration { source, values, differences } = migration;
    let mut text = format!(
        "# Values of the Helm chart gpu-device-plugin {}, from {source}.\n#\n# What will be \
         different:\n",
        env!("CARGO_PKG_VERSION")
    );
    for difference in differences {
        let line = format!("{}: {}", difference.about, difference.text);
        text.push_str(&format!("# - {}\n", status::escaped(&line)));
    }
    text.push_str(&status::yaml(&Value::Object(values)));
    text
}

fn read_all(files: &[PathBuf]) -> Result<Vec<Value>, String> {
    let stdin = [PathBuf::from("-")];
    let files = if files.is_empty() { &stdin } else { files };
    let mut all = Vec::new();
    for path in files {
        let name = if is_stdin(path) { "standard input".into() } else { path.to_string_lossy() };
        let text = read(path).map_err(|error| format!("cannot read {name}: {error}"))?;
        all.append(&mut documents(&name, &text)?);
        if all.len() > MOST_DOCUMENTS {
            return Err(format!("there are more than {MOST_DOCUMENTS} documents"));
        }
    }
    Ok(all)
}

/// The documents of a text that are not empty.
fn documents(name: &str, text: &str) -> Result<Vec<Value>, String> {
    let mut documents = Vec::new();
    for (line, part) in split(text) {
        // The lines of a part are counted from its own beginning.
        let value = config::yaml(part).map_err(|error| {
            format!("{name}, in the document that begins on line {line}: {error}")
        })?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn read(path: &Path) -> io::Result<String> {
    let bytes = if is_stdin(path) {
        let mut bytes = Vec::new();
        let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
        io::stdin().lock().take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() > MOST_BYTES {
            let text = format!("it has more than {MOST_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        bytes
    } else {
        file::read(path, Links::Follow, MOST_BYTES)?
    };
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// The documents of a text, each with the line on which it begins.
fn split(text: &str) -> Vec<(usize, &str)> {
    let (mut parts, mut begins, mut first_line, mut at) = (Vec::new(), 0, 1, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let end = at + line.len();
        // At the beginning of a line it stands in no text of another document.
        if line.trim_end() == "---" || line.starts_with("--- ") {
            parts.push((first_line, &text[begins..at]));
            // What follows the marker on its line is of the document.
            (begins, first_line) = (at + "---".len(), number + 1);
        }
        at = end;
    }
    parts.push((first_line, &text[begins..]));
    parts
}
