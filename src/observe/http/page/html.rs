//! Pieces of HTML.

use status::Timestamp;

/// A text for HTML, in an element or in a quoted attribute, on one line.
pub(super) fn escaped(text: &str) -> String {
    status::escaped(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// The HTML around a text, which is escaped; nothing without one.
pub(super) fn optional(text: Option<&String>, html: impl FnOnce(String) -> String) -> String {
    text.map(|text| html(escaped(text))).unwrap_or_default()
}

/// How long `at` is before `now`: "4 min ago", with the full time as a tooltip, and a note.
pub(super) fn since(now: Timestamp, at: Timestamp, note: &str) -> String {
    let ago = duration(now.since(at).as_secs_f64());
    let time = format!("<time datetime=\"{at}\" title=\"{at}\">{ago} ago</time>");
    format!("<span class=\"since\">{time}{note}</span>")
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
pub(super) fn pill(tone: &str, word: &str) -> String {
    format!("<span class=\"pill {tone}\">{word}</span>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_is_markup() {
        let text = escaped("<script>alert('x')</script> & \"y\"");
        assert_eq!(text, "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;y&quot;");
        assert_eq!(escaped("GPU\u{202e}\n<"), "GPU\\u{202e}\\n&lt;");
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
