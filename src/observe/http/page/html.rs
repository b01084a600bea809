//! Pieces of HTML.

use std::fmt::{self, Display, Formatter, Write};

use status::Timestamp;

/// A text escaped for HTML, in an element or in a quoted attribute.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                character => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// How long the second is before the first: "4 min ago", with the full time as a tooltip.
pub(super) struct Since(pub(super) Timestamp, pub(super) Timestamp);

impl Display for Since {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ago = duration(self.0.since(self.1).as_secs_f64());
        write!(f, "<time datetime=\"{at}\" title=\"{at}\">{ago} ago</time>", at = self.1)
    }
}

/// Seconds in the largest unit that fits.
pub(super) fn duration(seconds: f64) -> String {
    let (amount, unit) = match seconds {
        seconds if seconds < 120.0 => (seconds, "s"),
        seconds if seconds < 7200.0 => (seconds / 60.0, "min"),
        seconds if seconds < 172_800.0 => (seconds / 3600.0, "h"),
        seconds => (seconds / 86_400.0, "days"),
    };
    format!("{} {unit}", amount.floor())
}

/// "1 call", "2 calls".
pub(super) fn plural(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// A word in a coloured frame. The word says it; the colour only helps to find it.
pub(super) fn pill(html: &mut String, tone: &str, word: &str) -> fmt::Result {
    write!(html, "<span class=\"pill {tone}\">{}</span>", Escaped(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_is_markup() {
        let text = Escaped("<script>alert('x')</script> & \"y\"").to_string();
        assert_eq!(text, "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;y&quot;");
    }

    #[test]
    fn a_duration_has_the_largest_unit_that_fits() {
        let table = [
            (0.4, "0 s"),
            (119.0, "119 s"),
            (120.0, "2 min"),
            (7_300.0, "2 h"),
            (172_800.0, "2 days"),
            (1e6, "11 days"),
        ];
        for (seconds, text) in table {
            assert_eq!(duration(seconds), text);
        }
    }
}
