//! The status as YAML: as the JSON form, with its keys and its values, for people who would rather
//! read that.

use std::fmt::Write as _;

use serde_json::Value;

/// `value` as a YAML document.
#[must_use]
pub fn yaml(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(_) | Value::Array(_) => block(&mut text, value, 0),
        scalar => {
            let _ = writeln!(text, "{scalar}");
        }
    }
    text
}

fn block(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (n, (key, value)) in entries.iter().enumerate() {
                // The first one stands where a "- " has brought it.
                let gap = if n == 0 && text.ends_with("- ") { 0 } else { indent };
                let _ = write!(text, "{:gap$}{}:", "", quoted(key));
                item(text, value, indent + 2, " ");
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for value in items {
                let _ = write!(text, "{:indent$}- ", "");
                item(text, value, indent + 2, "");
            }
        }
        other => {
            let _ = writeln!(text, "{:indent$}{other}", "");
        }
    }
}

fn item(text: &mut String, value: &Value, indent: usize, gap: &str) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            if !gap.is_empty() {
                text.push('\n');
            }
            block(text, value, indent);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            block(text, value, indent);
        }
        Value::String(string) => {
            let _ = writeln!(text, "{gap}{}", quoted(string));
        }
        scalar => {
            let _ = writeln!(text, "{gap}{scalar}");
        }
    }
}

/// A text that no parser of YAML takes for anything else; most of them need no quotes.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !["y", "yes", "n", "no", "true", "false", "on", "off", "null"]
            .contains(&text.to_lowercase().as_str());
    // The strings of JSON are strings of YAML.
    if plain { text.to_owned() } else { Value::from(text).to_string() }
}
