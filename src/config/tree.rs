//! A YAML or JSON document as a tree in which every node knows its line. Scalars are resolved as
//! NVIDIA's parser resolves them; nothing else is interpreted, and no input makes it slow, deep or
//! large.

use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::scalar::{Meaning, resolve};

/// Deepest nesting: the schema needs five.
const DEEPEST: usize = 64;
/// Most nodes after aliases are expanded: a hundred resources need about a thousand.
const MOST_NODES: usize = 200_000;
/// Most bytes of text that aliases copy: a few copies of a long text are gigabytes.
const MOST_COPIED: usize = 1 << 20;

/// One node, with the line on which its text stands (for an alias: the line of its anchor).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) line: u32,
    pub(super) value: Value,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A scalar as it was written, with its meaning.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) meaning: Meaning,
    /// Whether it is a literal block (`|`), whose lines are those of the document.
    pub(super) is_literal: bool,
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) line: u32,
    pub(super) name: String,
}

impl Node {
    /// Whether it is null: `key:`, `key: ~` or `key: null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.meaning == Meaning::Null)
    }

    /// Whether it is a list without items.
    pub(super) fn is_empty_list(&self) -> bool {
        matches!(&self.value, Value::List(items) if items.is_empty())
    }

    /// How a message shows it.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            Value::Scalar(Scalar { meaning: Meaning::Null, .. }) => "nothing".to_owned(),
            Value::Scalar(Scalar { text, meaning: Meaning::Text, .. }) => format!("{text:?}"),
            Value::Scalar(scalar) => scalar.text.clone(),
            Value::List(items) if items.is_empty() => "an empty list".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }

    fn extent(&self) -> Extent {
        let mut extent = Extent { nodes: 1, bytes: 0, depth: 0 };
        match &self.value {
            Value::Scalar(scalar) => extent.bytes = scalar.text.len(),
            Value::List(items) => items.iter().for_each(|item| extent.add(&item.extent())),
            Value::Map(entries) => {
                for (key, node) in entries {
                    extent.bytes += key.name.len();
                    extent.add(&node.extent());
                }
            }
        }
        extent.depth += 1;
        extent
    }
}

/// How large a node is with all that is in it.
struct Extent {
    nodes: usize,
    /// Of its texts.
    bytes: usize,
    depth: usize,
}

impl Extent {
    fn add(&mut self, inner: &Self) {
        self.nodes += inner.nodes;
        self.bytes += inner.bytes;
        self.depth = self.depth.max(inner.depth);
    }
}

/// Why a text is neither YAML nor JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) line: u32,
    pub(super) problem: String,
}

/// A document.
#[derive(Debug)]
pub(super) struct Document {
    /// `None`: the text holds nothing but comments.
    pub(super) root: Option<Node>,
    /// The line on which a second document begins, which is ignored.
    pub(super) second_document: Option<u32>,
}

/// Reads the first document of `text`.
pub(super) fn read(text: &str) -> Result<Document, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::default();
    let (mut ended, mut second_document) = (false, None);
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            // The first document is complete, and what follows it is ignored.
            Err(_) if ended => break,
            Err(error) => return syntax_error(line(error.marker().line()), error.info()),
        };
        match event {
            Event::DocumentEnd => ended = true,
            Event::DocumentStart(..) if ended => {
                second_document = Some(line(span.start.line()));
                break;
            }
            event => builder.take(event, span)?,
        }
    }
    Ok(Document { root: builder.root.filter(|root| !root.is_null()), second_document })
}

/// Reads every document of `text` that has any content.
pub(super) fn read_all(text: &str) -> Result<Vec<Node>, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // One for all of them, so that its bounds are those of the whole text.
    let (mut builder, mut roots) = (Builder::default(), Vec::new());
    for event in Parser::new_from_str(text) {
        match event {
            Err(error) => return syntax_error(line(error.marker().line()), error.info()),
            Ok((Event::DocumentEnd, _)) => roots.extend(builder.root.take()),
            Ok((event, span)) => builder.take(event, span)?,
        }
    }
    roots.retain(|root| !root.is_null());
    Ok(roots)
}

/// A collection that is not closed yet.
struct Open {
    line: u32,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, key: Option<Key> },
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    /// Bytes of text that were copied.
    copied: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), SyntaxError> {
        let line = line(span.start.line());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let meaning = meaning(&text, style, tag.as_deref(), line)?;
                let is_literal = style == ScalarStyle::Literal;
                let value = Value::Scalar(Scalar { text: text.into_owned(), meaning, is_literal });
                self.add(Node { line, value }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.begin(line, anchor, Content::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, _) => {
                self.begin(line, anchor, Content::Map { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.remove(&anchor) else {
                    return syntax_error(line, "an alias (*) stands inside the node that it names");
                };
                // Counted before it is copied.
                self.count_copy(&node)?;
                self.anchors.insert(anchor, node.clone());
                self.add(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, line: u32, anchor: usize, content: Content) -> Result<(), SyntaxError> {
        if self.open.len() >= DEEPEST {
            return syntax_error(line, "collections are nested more than 64 deep");
        }
        self.open.push(Open { line, anchor, content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), SyntaxError> {
        let Some(Open { line, anchor, content }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => Value::Map(merged(entries)?),
        };
        self.add(Node { line, value }, anchor)
    }

    /// Counts a copy of `node`: a few aliases of aliases can stand for billions of nodes.
    fn count_copy(&mut self, node: &Node) -> Result<(), SyntaxError> {
        let Extent { nodes, bytes, depth } = node.extent();
        self.nodes += nodes;
        self.copied += bytes;
        let is_large = self.nodes > MOST_NODES || self.copied > MOST_COPIED;
        if is_large || self.open.len() + depth > DEEPEST {
            let problem = "its aliases (*) expand to more than a configuration can hold";
            return syntax_error(node.line, problem);
        }
        Ok(())
    }

    /// Puts a finished node where the document has it: the root, an item, a key, or the value of
    /// the last key.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return syntax_error(node.line, "the document has more than 200000 nodes");
        }
        if anchor != 0 {
            self.count_copy(&node)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, key }) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(self::key(node)?),
            },
        }
        Ok(())
    }
}

fn key(node: Node) -> Result<Key, SyntaxError> {
    match node.value {
        Value::Scalar(scalar) => Ok(Key { line: node.line, name: scalar.text }),
        _ => syntax_error(node.line, "a key is a list or a mapping; keys are words"),
    }
}

fn meaning(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    line: u32,
) -> Result<Meaning, SyntaxError> {
    let Some(tag) = tag else {
        return Ok(if style == ScalarStyle::Plain { resolve(text) } else { Meaning::Text });
    };
    match tag.core_suffix() {
        Some("str") => Ok(Meaning::Text),
        Some("bool" | "int" | "float" | "null") => Ok(resolve(text)),
        _ => {
            let text = format!("{} {text}", tag.original());
            let problem = "begins with '!', which marks a YAML tag: put the value in quotes";
            syntax_error(line, format!("{:?} {problem}", text.trim_end()))
        }
    }
}

/// The entries with those of `<<` merge keys, which an entry of the same name in the mapping itself
/// overrides.
fn merged(entries: Vec<(Key, Node)>) -> Result<Vec<(Key, Node)>, SyntaxError> {
    if entries.iter().all(|(key, _)| key.name != "<<") {
        return Ok(entries);
    }
    let (merges, mut own): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|(key, _)| key.name == "<<");
    let mut known: BTreeSet<String> = own.iter().map(|(key, _)| key.name.clone()).collect();
    for (key, node) in merges {
        let sources = match node.value {
            Value::List(items) => items,
            _ => vec![node],
        };
        for source in sources {
            let Value::Map(entries) = source.value else {
                let problem = "a merge key (<<) takes a mapping or a list of mappings";
                return syntax_error(key.line, problem);
            };
            for (key, node) in entries {
                if known.insert(key.name.clone()) {
                    own.push((key, node));
                }
            }
        }
    }
    Ok(own)
}

fn syntax_error<T>(line: u32, problem: impl Into<String>) -> Result<T, SyntaxError> {
    Err(SyntaxError { line, problem: problem.into() })
}

/// A line number as messages write it. The parser counts from 1, and 0 stands for an input without
/// lines.
fn line(number: usize) -> u32 {
    u32::try_from(number.max(1)).unwrap_or(u32::MAX)
}
