//! From what was written to a value: booleans, words, lists, paths, durations, from a text (flag,
//! environment) or from a node of the file.

use std::path::PathBuf;
use std::time::Duration;

use super::choice::{Choice, words};
use super::duration;
use super::nearest::nearest;
use super::scalar::{self, Meaning};
use super::tree::{Node, Value};

/// A value as one source has it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Raw<'a> {
    /// A flag, as often as it was given, or an environment variable.
    Texts(&'a [String]),
    /// A node of the file.
    Node(&'a Node),
}

/// Why a value, or a part of it, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Where in the value it stands: empty, `[1]`, `.include[0]`.
    pub(super) at: String,
    /// Its line, where it has one of its own.
    pub(super) line: Option<u32>,
    /// The part, as a message shows it.
    pub(super) value: String,
    /// What is wrong with it, and what is allowed.
    pub(super) problem: String,
}

/// The reading of a value: what it is, or everything that is wrong with it.
pub(super) type Read<T> = Result<T, Vec<Wrong>>;

/// One thing that is wrong with `value`, which is shown as it is.
pub(super) fn wrong<T>(value: impl Into<String>, problem: impl Into<String>) -> Read<T> {
    Err(vec![Wrong { at: String::new(), line: None, value: value.into(), problem: problem.into() }])
}

/// One thing that is wrong with `text`, which is shown in quotes.
pub(super) fn wrong_text<T>(text: &str, problem: impl Into<String>) -> Read<T> {
    wrong(format!("{text:?}"), problem)
}

/// All that was read, or everything that is wrong with any of it.
pub(super) fn all<T>(reads: impl IntoIterator<Item = Read<T>>) -> Read<Vec<T>> {
    let (mut values, mut wrongs) = (Vec::new(), Vec::new());
    for read in reads {
        match read {
            Ok(value) => values.push(value),
            Err(mut more) => wrongs.append(&mut more),
        }
    }
    if wrongs.is_empty() { Ok(values) } else { Err(wrongs) }
}

/// One text of a list, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) text: String,
    at: String,
    line: Option<u32>,
}

impl Item {
    /// What `parse` makes of its text; what is wrong is told with its place.
    pub(super) fn read<T>(&self, parse: impl FnOnce(&str) -> Read<T>) -> Read<T> {
        parse(&self.text).map_err(|wrongs| placed(wrongs, &self.at, self.line))
    }

    /// As a part of the value of `key`.
    pub(super) fn under(mut self, key: &str) -> Self {
        self.at = format!(".{key}{}", self.at);
        self
    }
}

fn placed(mut wrongs: Vec<Wrong>, at: &str, line: Option<u32>) -> Vec<Wrong> {
    for wrong in &mut wrongs {
        wrong.at.insert_str(0, at);
        wrong.line = wrong.line.or(line);
    }
    wrongs
}

impl<'a> Raw<'a> {
    /// The text of a flag or variable: the last word counts when a flag is given twice.
    fn last(texts: &'a [String]) -> &'a str {
        texts.last().map_or("", String::as_str)
    }
}

/// A text, as it stands.
pub(super) fn text(raw: Raw<'_>) -> Read<String> {
    match raw {
        Raw::Texts(texts) => Ok(Raw::last(texts).to_owned()),
        Raw::Node(node) => node_text(node).map(str::to_owned),
    }
}

/// The text of a scalar; a number or boolean where a text is asked for counts as it is written.
pub(super) fn node_text(node: &Node) -> Read<&str> {
    match &node.value {
        Value::Scalar(scalar) if scalar.meaning == Meaning::Null => Ok(""),
        Value::Scalar(scalar) => Ok(&scalar.text),
        _ => wrong(node.shown(), "is not a text"),
    }
}

/// A boolean, in the words of Go's `strconv.ParseBool`; an empty variable is false, as it is for
/// NVIDIA's plugin.
pub(super) fn boolean(raw: Raw<'_>) -> Read<bool> {
    match raw {
        Raw::Texts(texts) => match Raw::last(texts) {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" | "" => Ok(false),
            other => wrong_text(other, "is not true or false"),
        },
        Raw::Node(node) => match &node.value {
            Value::Scalar(scalar) => match scalar.meaning {
                Meaning::Bool(value) => Ok(value),
                Meaning::Text if matches!(scalar.text.as_str(), "true" | "false") => {
                    wrong(node.shown(), "is a text; write true or false without quotes")
                }
                _ => wrong(node.shown(), "is not true or false"),
            },
            _ => wrong(node.shown(), "is not true or false"),
        },
    }
}

/// A word of `C`.
pub(super) fn choice<C: Choice>(raw: Raw<'_>) -> Read<C> {
    word(&text(raw)?)
}

/// A word of `C`, with the nearest allowed one where it is none.
pub(super) fn word<C: Choice>(text: &str) -> Read<C> {
    if let Some(choice) = C::from_word(text) {
        return Ok(choice);
    }
    let allowed = words::<C>();
    let hint = nearest(text, allowed.iter().copied()).map(|near| format!("; did you mean {near}?"));
    wrong_text(text, format!("is not one of {}{}", allowed.join(", "), hint.unwrap_or_default()))
}

/// A list of texts: flags and variables are split at commas; in a file a single text is a list of
/// one.
pub(super) fn list(raw: Raw<'_>) -> Read<Vec<Item>> {
    match raw {
        Raw::Texts([empty]) if empty.is_empty() => Ok(Vec::new()),
        Raw::Texts(texts) => Ok(texts.iter().flat_map(|text| split(text)).collect()),
        Raw::Node(Node { value: Value::List(items), .. }) => {
            all(items.iter().enumerate().map(|(number, node)| {
                let (at, line) = (format!("[{number}]"), Some(node.line));
                match node_text(node) {
                    Ok(text) => Ok(Item { text: text.to_owned(), at, line }),
                    Err(wrongs) => Err(placed(wrongs, &at, line)),
                }
            }))
        }
        Raw::Node(node) => {
            Ok(vec![Item { text: node_text(node)?.to_owned(), at: String::new(), line: None }])
        }
    }
}

/// The parts of a comma list.
pub(super) fn split(text: &str) -> impl Iterator<Item = Item> {
    text.split(',').map(|part| Item { text: part.trim().to_owned(), at: String::new(), line: None })
}

/// A directory or file; `None` for an empty text.
pub(super) fn path(raw: Raw<'_>) -> Read<Option<PathBuf>> {
    let text = text(raw)?;
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

/// A path on the host, which has to be absolute: others than this process use it.
pub(super) fn absolute(raw: Raw<'_>) -> Read<Option<PathBuf>> {
    match path(raw)? {
        Some(path) if !path.is_absolute() => {
            wrong_text(&path.to_string_lossy(), "is not an absolute path (beginning with /)")
        }
        path => Ok(path),
    }
}

/// A duration: Go's syntax, or in a file a number of nanoseconds.
pub(super) fn duration(raw: Raw<'_>) -> Read<Duration> {
    const ALLOWED: &str = "is not a duration such as 10s, 1m30s or 500ms";
    if let Raw::Node(Node { value: Value::Scalar(scalar), .. }) = raw {
        match scalar.meaning {
            Meaning::Int(number) => {
                return match u64::try_from(number) {
                    Ok(number) => Ok(Duration::from_nanos(number)),
                    Err(_) => wrong(&scalar.text, ALLOWED),
                };
            }
            Meaning::Text => {}
            _ => return wrong(&scalar.text, ALLOWED),
        }
    }
    let text = text(raw)?;
    match duration::parse(&text) {
        Some(duration) => Ok(duration),
        None => wrong_text(&text, ALLOWED),
    }
}

/// A whole number within `range`, which `allowed` puts in words.
pub(super) fn number(
    node: &Node,
    range: std::ops::RangeInclusive<u32>,
    allowed: &str,
) -> Read<u32> {
    let number = match &node.value {
        Value::Scalar(scalar) => match scalar.meaning {
            Meaning::Int(number) => u32::try_from(number).ok(),
            // JSON has no integers: 4.0 is 4.
            Meaning::Float(number) if number.fract() == 0.0 => format!("{number:.0}").parse().ok(),
            _ => None,
        },
        _ => None,
    };
    match number.filter(|number| range.contains(number)) {
        Some(number) => Ok(number),
        None => wrong(node.shown(), allowed),
    }
}

/// A whole number in a text.
pub(super) fn text_number(text: &str) -> Option<u32> {
    scalar::integer(text).and_then(|number| u32::try_from(number).ok())
}
