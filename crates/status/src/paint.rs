//! Colours and paragraphs for a terminal.

use super::escape::escaped;

/// How a text is painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    Good,
    Warn,
    Bad,
    Plain,
}

/// A text in a colour (ECMA-48, SGR), if there are colours.
pub(super) fn painted(text: &str, paint: Paint, colour: bool) -> String {
    let code = match paint {
        Paint::Good => "32",
        Paint::Warn => "33",
        Paint::Bad => "31;1",
        Paint::Plain => return text.to_owned(),
    };
    if !colour {
        return text.to_owned();
    }
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// `words` after `begin`, broken into lines of at most `width` columns that begin at the column
/// `indent`; what comes from outside cannot end a line. Nothing is broken without a width.
pub(super) fn paragraph(begin: &str, indent: usize, words: &str, width: Option<usize>) -> String {
    let words = escaped(words);
    let Some(width) = width.map(|width| width.max(indent + 1)) else {
        return format!("{begin}{words}\n");
    };
    let mut text = begin.to_owned();
    let mut column = indent;
    for (n, word) in words.split(' ').enumerate() {
        let length = word.chars().count();
        if n > 0 && column + 1 + length > width {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if n > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_is_broken_between_words_and_goes_on_at_its_indent() {
        assert_eq!(paragraph("a  ", 3, "one two three", None), "a  one two three\n");
        assert_eq!(paragraph("a  ", 3, "one two three", Some(10)), "a  one two\n   three\n");
        assert_eq!(paragraph("a  ", 3, "a\nb", Some(80)), "a  a\\nb\n");
        // A word that is wider than the terminal has a line of its own.
        assert_eq!(paragraph("", 0, "one two", Some(0)), "one\ntwo\n");
    }

    #[test]
    fn without_colours_nothing_is_painted() {
        assert_eq!(painted("x", Paint::Bad, false), "x");
        assert_eq!(painted("x", Paint::Plain, true), "x");
        assert_eq!(painted("x", Paint::Bad, true), "\x1b[31;1mx\x1b[0m");
    }
}
