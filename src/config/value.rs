//! Parsers of values: booleans, words, lists, paths, durations, from a text (flag, environment) or
//! from a node of the file; and plain values of other programs' documents.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::choice::{Choice, words};
use super::duration;
use super::nearest::nearest;
use super::print;
use super::scalar::{self, Meaning};
use super::tree::{self, Key, Node, Scalar, Value};

/// A value as one source has it.
#[derive(Debug, Clone, Copy)]
pub(super) enum RawValue<'a> {
    /// Of a flag, as often as it was given, or of an environment variable.
    Texts(&'a [String]),
    /// Of the file.
    Node(&'a Node),
}

/// Why a value, or a part of it, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ValueError {
    /// The part of the value: empty, `[1]`, `.include[0]`.
    pub(super) at: String,
    /// Its line, where it has one of its own.
    pub(super) line: Option<u32>,
    /// The part as a message shows it.
    pub(super) value: String,
    /// What is wrong with it, and what is expected.
    pub(super) problem: String,
}

/// A value, or all errors in it.
pub(super) type Parsed<T> = Result<T, Vec<ValueError>>;

/// One error in `value`, which is shown as it is.
pub(super) fn invalid<T>(value: impl Into<String>, problem: impl Into<String>) -> Parsed<T> {
    let (value, problem) = (value.into(), problem.into());
    Err(vec![ValueError { at: String::new(), line: None, value, problem }])
}

/// One error in `text`, which is shown in quotes.
pub(super) fn invalid_text<T>(text: &str, problem: impl Into<String>) -> Parsed<T> {
    invalid(format!("{text:?}"), problem)
}

/// All values, or all errors in any of them.
pub(super) fn collect<T>(parsed: impl IntoIterator<Item = Parsed<T>>) -> Parsed<Vec<T>> {
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for value in parsed {
        match value {
            Ok(value) => values.push(value),
            Err(mut more) => errors.append(&mut more),
        }
    }
    if errors.is_empty() { Ok(values) } else { Err(errors) }
}

/// Adds the place of a part of a value to the errors in it.
pub(super) fn at<T>(at: &str, line: Option<u32>, parsed: Parsed<T>) -> Parsed<T> {
    parsed.map_err(|mut errors| {
        for error in &mut errors {
            error.at.insert_str(0, at);
            error.line = error.line.or(line);
        }
        errors
    })
}

/// One text of a list, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) text: String,
    at: String,
    line: Option<u32>,
}

impl Item {
    /// Parses the text, and adds the place to the errors. In a file commas separate nothing: of a
    /// text that has any, the error says how a list is written.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Parsed<T>) -> Parsed<T> {
        const LONGEST: usize = 200;
        let mut parsed = parse(&self.text);
        if let Err(errors) = &mut parsed
            && self.text.contains(',')
            && self.text.len() <= LONGEST
        {
            let list = print::flow(self.text.split(',').map(str::trim));
            errors.iter_mut().for_each(|error| error.problem += &format!("; write a list: {list}"));
        }
        at(&self.at, self.line, parsed)
    }

    /// As a part of the value of `key`.
    pub(super) fn under(mut self, key: &str) -> Self {
        self.at = format!(".{key}{}", self.at);
        self
    }
}

/// The text of a flag or variable: of a flag that is given twice, the last one.
fn last(texts: &[String]) -> &str {
    texts.last().map_or("", String::as_str)
}

/// A text, as it stands.
pub(super) fn text(raw: RawValue<'_>) -> Parsed<String> {
    match raw {
        RawValue::Texts(texts) => Ok(last(texts).to_owned()),
        RawValue::Node(node) => node_text(node).map(str::to_owned),
    }
}

/// The text of a scalar; a number or boolean is taken as it is written.
pub(super) fn node_text(node: &Node) -> Parsed<&str> {
    match &node.value {
        Value::Scalar(scalar) if scalar.meaning == Meaning::Null => Ok(""),
        Value::Scalar(scalar) => Ok(&scalar.text),
        _ => invalid(node.shown(), "is not a text"),
    }
}

/// A boolean, in the words of Go's `strconv.ParseBool`; an empty variable is false, as it is for
/// NVIDIA's plugin.
pub(super) fn boolean(raw: RawValue<'_>) -> Parsed<bool> {
    const PROBLEM: &str = "is not true or false";
    match raw {
        RawValue::Texts(texts) => match last(texts) {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" | "" => Ok(false),
            other => invalid_text(other, PROBLEM),
        },
        RawValue::Node(node) => match &node.value {
            Value::Scalar(Scalar { meaning: Meaning::Bool(value), .. }) => Ok(*value),
            Value::Scalar(Scalar { meaning: Meaning::Text, text, .. })
                if matches!(text.as_str(), "true" | "false") =>
            {
                invalid(node.shown(), "is a text; write true or false without quotes")
            }
            _ => invalid(node.shown(), PROBLEM),
        },
    }
}

/// A word of `C`.
pub(super) fn choice<C: Choice>(raw: RawValue<'_>) -> Parsed<C> {
    word(&text(raw)?)
}

/// A word of `C`; the error names the nearest one.
pub(super) fn word<C: Choice>(text: &str) -> Parsed<C> {
    if let Some(choice) = C::from_word(text) {
        return Ok(choice);
    }
    let allowed = words::<C>();
    let hint = nearest(text, allowed.iter().copied()).map(|near| format!("; did you mean {near}?"));
    let problem = format!("is not one of {}{}", allowed.join(", "), hint.unwrap_or_default());
    invalid_text(text, problem)
}

/// A list of texts: flags and variables are split at commas; in a file a single text is a list of
/// one.
pub(super) fn list(raw: RawValue<'_>) -> Parsed<Vec<Item>> {
    match raw {
        RawValue::Texts([empty]) if empty.is_empty() => Ok(Vec::new()),
        RawValue::Texts(texts) => Ok(texts.iter().flat_map(|text| split(text)).collect()),
        RawValue::Node(Node { value: Value::List(items), .. }) => {
            collect(items.iter().enumerate().map(|(number, node)| {
                let (at, line) = (format!("[{number}]"), Some(node.line));
                let text = self::at(&at, line, node_text(node))?.to_owned();
                Ok(Item { text, at, line })
            }))
        }
        RawValue::Node(node) => {
            Ok(vec![Item { text: node_text(node)?.to_owned(), at: String::new(), line: None }])
        }
    }
}

/// The parts of a comma list.
pub(super) fn split(text: &str) -> impl Iterator<Item = Item> {
    text.split(',').map(|part| Item { text: part.trim().to_owned(), at: String::new(), line: None })
}

/// The entries of a mapping, which only a file can have.
pub(super) fn entries(raw: RawValue<'_>) -> Parsed<&[(Key, Node)]> {
    match raw {
        RawValue::Node(Node { value: Value::Map(entries), .. }) => Ok(entries),
        RawValue::Node(node) => invalid(node.shown(), "is not a mapping (key: value)"),
        RawValue::Texts(_) => Ok(&[]),
    }
}

/// A directory or file; `None` for an empty text.
pub(super) fn path(raw: RawValue<'_>) -> Parsed<Option<PathBuf>> {
    let text = text(raw)?;
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

/// A path on the host, or nothing. It has to be absolute: others than this process use it.
pub(super) fn absolute_text(raw: RawValue<'_>) -> Parsed<String> {
    let text = text(raw)?;
    if !text.is_empty() && !text.starts_with('/') {
        return invalid_text(&text, "is not an absolute path (beginning with /)");
    }
    Ok(text)
}

const NO_DURATION: &str = "is not a duration such as 10s, 1m30s or 500ms";

/// Checks a duration in Go's syntax, which may be negative, for another program.
pub(super) fn signed_duration(node: &Node) -> Parsed<()> {
    let text = node_text(node)?;
    let size = text.strip_prefix('-').filter(|size| !size.starts_with(['+', '-']));
    match duration::parse(size.unwrap_or(text)) {
        Some(_) => Ok(()),
        None => invalid(node.shown(), NO_DURATION),
    }
}

/// A duration: Go's syntax, or in a file a number of nanoseconds.
pub(super) fn duration(raw: RawValue<'_>) -> Parsed<Duration> {
    const PROBLEM: &str = NO_DURATION;
    if let RawValue::Node(Node { value: Value::Scalar(scalar), .. }) = raw {
        let number = match scalar.meaning {
            Meaning::Int(number) => u64::try_from(number).ok(),
            _ => None,
        };
        if scalar.meaning != Meaning::Text {
            let nanoseconds = number.map(Duration::from_nanos).map(Ok);
            return nanoseconds.unwrap_or_else(|| invalid(&scalar.text, PROBLEM));
        }
    }
    let text = text(raw)?;
    duration::parse(&text).map_or_else(|| invalid_text(&text, PROBLEM), Ok)
}

/// A whole number within `range`.
pub(super) fn number(raw: RawValue<'_>, range: RangeInclusive<u32>, problem: &str) -> Parsed<u32> {
    let (number, shown) = match raw {
        RawValue::Texts(texts) => (text_number(last(texts)), last(texts).to_owned()),
        RawValue::Node(node) => (node_number(node), node.shown()),
    };
    number.filter(|number| range.contains(number)).map_or_else(|| invalid(shown, problem), Ok)
}

fn node_number(node: &Node) -> Option<u32> {
    let Value::Scalar(scalar) = &node.value else { return None };
    match scalar.meaning {
        Meaning::Int(number) => u32::try_from(number).ok(),
        // JSON has no integers: 4.0 is 4.
        Meaning::Float(number) if number.fract() == 0.0 => format!("{number:.0}").parse().ok(),
        _ => None,
    }
}

/// A whole number in a text.
pub(super) fn text_number(text: &str) -> Option<u32> {
    scalar::integer(text).and_then(|number| u32::try_from(number).ok())
}

/// A YAML or JSON document as a plain value: what is no text, integer or boolean is the text as it
/// is written.
///
/// # Errors
/// It is neither; the text says where.
pub fn yaml(text: &str) -> Result<serde_json::Value, String> {
    let document =
        tree::read(text).map_err(|error| format!("line {}: {}", error.line, error.problem))?;
    Ok(document.root.map_or(serde_json::Value::Null, plain))
}

fn plain(node: Node) -> serde_json::Value {
    match node.value {
        Value::Scalar(Scalar { meaning: Meaning::Null, .. }) => serde_json::Value::Null,
        Value::Scalar(Scalar { meaning: Meaning::Bool(value), .. }) => value.into(),
        Value::Scalar(Scalar { meaning: Meaning::Int(value), .. }) => value.into(),
        Value::Scalar(Scalar { text, .. }) => text.into(),
        Value::List(items) => items.into_iter().map(plain).collect(),
        Value::Map(entries) => {
            entries.into_iter().map(|(key, node)| (key.name, plain(node))).collect()
        }
    }
}
