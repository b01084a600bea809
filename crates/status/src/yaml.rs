//! The status as YAML, with the keys and values of the JSON schema.

use serde_json::Value;

use super::escape::is_invisible;

/// `value` as a YAML document.
#[must_use]
pub fn yaml(value: &Value) -> String {
    lines(value).join("\n") + "\n"
}

fn lines(value: &Value) -> Vec<String> {
    let with = |prefix: &'static str| move |line| format!("{prefix}{line}");
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            let entry = |(key, value): (&String, &Value)| match is_block(value) {
                true => {
                    let head = format!("{}:", quoted(key));
                    std::iter::once(head).chain(lines(value).into_iter().map(with("  "))).collect()
                }
                false => vec![format!("{}: {}", quoted(key), lines(value).concat())],
            };
            entries.iter().flat_map(entry).collect()
        }
        Value::Array(items) if !items.is_empty() => {
            let item = |item: &Value| {
                // A list in a list begins on a line of its own.
                let head = (item.is_array() && is_block(item)).then(String::new);
                let mut lines = head.into_iter().chain(lines(item));
                let first = lines.next().map(with("- "));
                first.into_iter().chain(lines.map(with("  "))).collect::<Vec<_>>()
            };
            items.iter().flat_map(item).collect()
        }
        Value::String(text) => vec![quoted(text)],
        scalar => vec![scalar.to_string()],
    }
}

/// Whether it takes lines of its own below a key.
fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(entries) => !entries.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

/// A string that every YAML parser reads as a string; most need no quotes.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !["y", "yes", "n", "no", "true", "false", "on", "off", "null"]
            .contains(&text.to_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    // The strings of JSON are strings of YAML. JSON leaves some characters as they are that YAML
    // does not allow, or that control a terminal.
    let escape = |c: char| match is_invisible(c) {
        true => format!("\\U{:08x}", u32::from(c)),
        false => c.to_string(),
    };
    Value::from(text).to_string().chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_to_be_seen_is_written_as_an_escape_of_yaml() {
        assert_eq!(quoted("plain-1.2/x"), "plain-1.2/x");
        assert_eq!(quoted("a\"b\n\u{1b}"), "\"a\\\"b\\n\\u001b\"");
        assert_eq!(quoted("\u{7f}\u{9b}\u{202e}"), "\"\\U0000007f\\U0000009b\\U0000202e\"");
    }
}
