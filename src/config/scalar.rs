//! What a plain YAML scalar means, by the rules of the parser that NVIDIA's plugin uses: YAML 1.1
//! booleans, Go's integer literals, floats.

/// What a scalar means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Meaning {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text,
}

/// The meaning of an unquoted scalar.
pub(super) fn resolve(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "y" | "Y" | "on" | "On" | "ON" => {
            return Meaning::Bool(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "n" | "N" | "off" | "Off" | "OFF" => {
            return Meaning::Bool(false);
        }
        _ => {}
    }
    let number = integer(text).map(Meaning::Int).or_else(|| float(text).map(Meaning::Float));
    number.unwrap_or(Meaning::Text)
}

/// A Go integer literal: decimal, `0x`, `0o` or a leading zero (octal), `0b`, with underscores
/// between digits.
pub(super) fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let plain = digits.replace('_', "");
    let lower = plain.to_ascii_lowercase();
    let prefixes = [("0x", 16), ("0o", 8), ("0b", 2), ("0", 8)];
    let prefixed = |(prefix, radix)| Some((lower.strip_prefix(prefix)?, radix));
    let (digits, radix) = match lower.as_str() {
        "0" => ("0", 10),
        _ => prefixes.into_iter().find_map(prefixed).unwrap_or((&lower, 10)),
    };
    // The standard parser would take a second sign.
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let number = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -number } else { number })
}

fn float(text: &str) -> Option<f64> {
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let has_digit = text.bytes().any(|b| b.is_ascii_digit());
    (numeric && has_digit).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_they_mean_to_nvidias_parser() {
        for (text, expected) in [
            ("", Meaning::Null),
            ("~", Meaning::Null),
            ("yes", Meaning::Bool(true)),
            ("Off", Meaning::Bool(false)),
            ("10", Meaning::Int(10)),
            ("-3", Meaning::Int(-3)),
            ("0x10", Meaning::Int(16)),
            ("010", Meaning::Int(8)),
            ("1_000", Meaning::Int(1000)),
            ("1.5", Meaning::Float(1.5)),
            ("1e3", Meaning::Float(1000.0)),
            ("08", Meaning::Float(8.0)),
            ("+-5", Meaning::Text),
            ("0:1", Meaning::Text),
            ("-", Meaning::Text),
            ("1g.10gb", Meaning::Text),
            ("inf", Meaning::Text),
            ("none", Meaning::Text),
        ] {
            assert_eq!(resolve(text), expected, "{text:?}");
        }
    }
}
