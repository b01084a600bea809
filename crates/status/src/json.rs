//! JSON for terminals.

use std::fmt::Write;

use super::escape::is_invisible;

/// JSON in which characters that control a terminal, or are not to be seen by themselves, are
/// escapes. It means the same: outside of strings JSON has no such characters but white space,
/// which stays.
///
/// RFC 8259 lets a string have every character but U+0000 to U+001F as it is, and so do the writers
/// of JSON: U+007F to U+009F, by which terminals are controlled too, and marks of the writing
/// direction.
#[must_use]
pub fn visible_json(json: String) -> String {
    let is_escaped = |c: char| !matches!(c, '\n' | '\r' | '\t') && is_invisible(c);
    if !json.contains(is_escaped) {
        return json;
    }
    let mut text = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_escaped(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // A String takes everything.
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_controls_a_terminal_is_escaped_and_means_the_same() {
        let value = json!({"a\u{9b}31m": ["\u{7f}\u{85}\u{202e}\u{e0001}\n\t\u{1b}", "Grüße ✓"]});
        for json in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let text = visible_json(json);
            assert!(text.chars().all(|c| c == '\n' || !is_invisible(c)), "{text:?}");
            assert!(text.contains(r"\u009b31m") && text.contains(r"\udb40\udc01"), "{text}");
            assert!(text.contains("Grüße ✓"), "what can be read stays: {text}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
    }

    #[test]
    fn white_space_between_values_stays() {
        let json = "{\n\t\"a\": \"\u{9b}\"\r\n}".to_owned();
        assert_eq!(visible_json(json), "{\n\t\"a\": \"\\u009b\"\r\n}");
    }
}
