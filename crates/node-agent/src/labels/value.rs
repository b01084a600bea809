//! Values of labels: from any text to what Kubernetes accepts.

/// The longest value of a label.
const MAX_VALUE: usize = 63;

/// Whether Kubernetes accepts a text as the value of a label: empty, or at most 63 characters of
/// letters, digits, dashes, dots and underscores that begin and end with a letter or digit
/// (k8s.io/apimachinery, `IsValidLabelValue`).
pub fn is_valid(value: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    value.len() <= MAX_VALUE && value.chars().all(inside) && value == trimmed(value)
}

/// A text as GPU feature discovery writes it into a label: without the characters that a value may
/// not have, a dash for each run of blanks; and without what may not stand at its ends.
pub(super) fn sanitised(text: &str) -> String {
    let mut value = String::new();
    let mut blank = false;
    for c in text.chars() {
        match c {
            ' ' => blank = true,
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') => {
                if blank {
                    value.push('-');
                }
                blank = false;
                value.push(c);
            }
            _ => {}
        }
    }
    trimmed(&value).to_owned()
}

/// A text as the value of a label, cut to the length that a value may have.
pub(super) fn of_text(text: &str) -> String {
    joined(text, &[])
}

/// The name of a model and what follows it, with dashes. Where that is too long the name is cut
/// after a word: what follows tells shared GPUs and MIG devices from others.
pub(super) fn joined(name: &str, suffixes: &[&str]) -> String {
    let mut suffix = String::new();
    for part in suffixes.iter().map(|part| sanitised(part)).filter(|part| !part.is_empty()) {
        suffix.push('-');
        suffix.push_str(&part);
    }
    let name = sanitised(name);
    let room = MAX_VALUE.saturating_sub(suffix.len());
    let value = cut(&name, room).to_owned() + &suffix;
    trimmed(cut(&value, MAX_VALUE)).to_owned()
}

/// The beginning of a sanitised text, of at most so many bytes, to the end of a word if there is
/// one.
fn cut(text: &str, room: usize) -> &str {
    if text.len() <= room {
        return text;
    }
    // It is ASCII.
    let beginning = &text[..room];
    let is_between = text[room..].starts_with('-');
    let words = if is_between { Some(room) } else { beginning.rfind('-') };
    trimmed(words.map_or(beginning, |end| &beginning[..end]))
}

/// The parts of a version of two or three numbers; another one has no labels.
pub(super) fn driver_parts(version: &str) -> Option<[&str; 3]> {
    let parts: Vec<&str> = version.split('.').collect();
    let are_numbers = parts.iter().all(|part| part.parse::<u32>().is_ok());
    match parts[..] {
        [major, minor] if are_numbers => Some([major, minor, ""]),
        [major, minor, revision] if are_numbers => Some([major, minor, revision]),
        _ => None,
    }
}

fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| !c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_what_gpu_feature_discovery_makes_of_them() {
        for (text, value) in [
            ("NVIDIA H100 80GB HBM3", "NVIDIA-H100-80GB-HBM3"),
            ("NVIDIA  RTX   A6000", "NVIDIA-RTX-A6000"),
            ("Tesla V100-SXM2-16GB", "Tesla-V100-SXM2-16GB"),
            ("GRID P4-8Q (vGPU)", "GRID-P4-8Q-vGPU"),
            (" Standard PC (i440FX + PIIX, 1996) ", "Standard-PC-i440FX-PIIX-1996"),
            ("1g.10gb+me", "1g.10gbme"),
            ("Größe", "Gre"),
            ("\u{1b}[2J\n", "2J"),
            ("...", ""),
            ("", ""),
        ] {
            assert_eq!(sanitised(text), value, "{text}");
        }
    }

    #[test]
    fn no_value_is_too_long_and_what_follows_the_name_stays() {
        let long = "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition With More Words";
        let table = [
            (long, &[][..], "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edition-With"),
            (long, &["SHARED"], "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edition-SHARED"),
            (
                long,
                &["MIG", "1g.24gb+me.all", "SHARED"],
                "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-MIG-1g.24gbme.all-SHARED",
            ),
            ("", &["SHARED"], "SHARED"),
        ];
        for (name, suffixes, value) in table {
            assert_eq!(joined(name, suffixes), value);
        }
        let texts =
            ["a".repeat(200), "a ".repeat(200), "- ".repeat(200), format!("{}-", "b".repeat(62))];
        for name in &texts {
            for suffix in ["", "SHARED", &"c".repeat(62), &"c".repeat(90), &"c-".repeat(60)] {
                let value = joined(name, &[suffix]);
                assert!(is_valid(&value), "{value}");
            }
        }
        assert!(!is_valid(&"a".repeat(64)) && !is_valid("-a") && !is_valid("a b") && is_valid(""));
    }
}
