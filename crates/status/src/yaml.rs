//! The status as YAML, with the keys and values of the JSON schema.

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
                // The first one is on the line that "- " begins.
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

/// A string that every YAML parser reads as a string; most need no quotes.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !["y", "yes", "n", "no", "true", "false", "on", "off", "null"]
            .contains(&text.to_lowercase().as_str());
    // The strings of JSON are strings of YAML.
    if plain { text.to_owned() } else { Value::from(text).to_string() }
}
