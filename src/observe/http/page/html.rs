//! Pieces of HTML.

use status::{Timestamp, duration};

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
    let ago = duration(now.since(at));
    let time = format!("<time datetime=\"{at}\" title=\"{at}\">{ago} ago</time>");
    format!("<span class=\"since\">{time}{note}</span>")
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
}
