//! Texts from outside, such as the names of GPUs and pods and the errors of others, made fit to be
//! shown: none can end a line, control a terminal, or change the order of what stands beside it.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// The text on one line: characters that are not to be seen by themselves (control characters, line
/// and paragraph separators, marks of the writing direction, characters without width) as Rust
/// writes them, such as `\n` and `\u{1b}`. All others stay as they are.
///
/// It is for people and cannot be undone: a backslash stands for itself too.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_invisible) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_invisible(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// The beginning of a text, of at most so many bytes, in whole characters.
#[must_use]
pub fn bounded(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Writes as [`escaped`] says.
pub struct Escaping<'w>(pub &'w mut dyn Write);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&escaped(text))
    }
}

/// Whether a character moves the cursor, changes the order of the text or is not to be seen
/// (Unicode: general category Cc; Zl, Zp; those of Cf that programs show as nothing).
#[must_use]
pub fn is_invisible(c: char) -> bool {
    match c {
        ' '..='~' => false,
        _ if c.is_control() => true,
        '\u{61c}' | '\u{180e}' | '\u{feff}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        for (most, expected) in [(0, ""), (1, ""), (2, "ü"), (3, "ü"), (4, "üü"), (9, "üü")] {
            assert_eq!(bounded("üü", most), expected, "{most}");
        }
    }

    #[test]
    fn nothing_that_is_not_seen_by_itself_is_left() {
        for (text, expected) in [
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[2J\u{7}\u{0}\u{7f}", "\\u{1b}[2J\\u{7}\\u{0}\\u{7f}"),
            ("\u{9b}31m\u{85}", "\\u{9b}31m\\u{85}"),
            ("\u{2028}\u{2029}", "\\u{2028}\\u{2029}"),
            ("gpu\u{202e}0\u{2066}\u{200f}", "gpu\\u{202e}0\\u{2066}\\u{200f}"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }

    #[test]
    fn what_can_be_read_stays_as_it_is() {
        for text in ["", "NVIDIA H100 80GB HBM3", r#"back\slash "quoted" 'x'"#, "Grüße, 東京 ✓"]
        {
            assert!(matches!(escaped(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn a_writer_escapes_across_its_calls() {
        let mut text = String::new();
        write!(Escaping(&mut text), "a\n-{:>3}", '\u{1b}').unwrap();
        assert_eq!(text, "a\\n-  \\u{1b}");
    }
}
