//! Values as YAML on one line, so that they read back as the same values.

use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::choice::Choice;
use super::duration;
use super::scalar::{Meaning, resolve};

/// A boolean or number.
pub(super) fn display(value: &impl Display) -> String {
    value.to_string()
}

pub(super) fn choice<C: Choice>(choice: &C) -> String {
    choice.as_str().to_owned()
}

pub(super) fn choices<'a, C: Choice>(choices: impl IntoIterator<Item = &'a C>) -> String {
    flow(choices.into_iter().map(|choice| choice.as_str()))
}

pub(super) fn duration(duration: &Duration) -> String {
    duration::format(*duration)
}

pub(super) fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

pub(super) fn optional_path(path: &Option<PathBuf>) -> String {
    path.as_ref().map_or_else(|| quoted(""), |path| self::path(path))
}

/// A list.
pub(super) fn flow<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// A scalar: plain where that is safe, elsewhere in double quotes. Numbers stay plain, since every
/// setting that takes a text takes them.
pub(super) fn quoted(text: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"/._+-".contains(&b);
    let starts = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'/');
    if starts
        && text.bytes().all(safe)
        && !matches!(resolve(text), Meaning::Null | Meaning::Bool(_))
    {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}') => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
