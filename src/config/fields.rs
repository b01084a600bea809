//! The keys of one mapping in a config file: each is taken by name, whatever its case, and what
//! nobody took is told.

use super::nearest::nearest;
use super::report::{Origin, Report};
use super::tree::{Key, Node, Value};

/// A mapping whose keys are being taken.
pub(super) struct Fields<'a> {
    path: String,
    entries: Vec<(&'a Key, &'a Node, bool)>,
    known: Vec<&'static str>,
}

/// A value that was taken, with its key path.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    pub(super) path: String,
    pub(super) node: &'a Node,
}

impl Field<'_> {
    /// Where it stands.
    pub(super) fn origin(&self) -> Origin {
        Origin::File { line: self.node.line }
    }
}

impl<'a> Fields<'a> {
    /// The keys of `node`; anything but a mapping is a mistake.
    pub(super) fn open(path: &str, node: &'a Node, report: &mut Report) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let known = if path.is_empty() { "the document" } else { "it" };
            let problem = format!("{known} has to be a mapping (key: value)");
            report.mistake(
                Origin::File { line: node.line },
                path,
                node.shown(),
                format!("is not understood: {problem}"),
            );
            return None;
        };
        let entries = entries.iter().map(|(key, node)| (key, node, false)).collect();
        Some(Self { path: path.to_owned(), entries, known: Vec::new() })
    }

    /// The value of `name`, if it is there and says something. Written twice, the last one counts,
    /// with a warning.
    pub(super) fn take(&mut self, name: &'static str, report: &mut Report) -> Option<Field<'a>> {
        self.known.push(name);
        let path = joined(&self.path, name);
        let mut found: Option<(&Key, &'a Node)> = None;
        for (key, node, taken) in &mut self.entries {
            if !key.name.eq_ignore_ascii_case(name) {
                continue;
            }
            *taken = true;
            if let Some((earlier, _)) = found.replace((key, node)) {
                let problem =
                    format!("is written again on line {}, and only that one counts", key.line);
                report.warning(Origin::File { line: earlier.line }, path.as_str(), "", problem);
            }
        }
        found.filter(|(_, node)| !node.is_null()).map(|(_, node)| Field { path, node })
    }

    /// What nobody took, as numbers or words of a mapping whose keys are not fixed.
    pub(super) fn rest(self) -> impl Iterator<Item = (&'a Key, Field<'a>)> {
        let path = self.path;
        let rest = self.entries.into_iter().filter(|(_, _, taken)| !taken);
        rest.map(move |(key, node, _)| (key, Field { path: joined(&path, &key.name), node }))
    }

    /// Warns of every key that nobody took.
    pub(super) fn finish(self, report: &mut Report) {
        let known = self.known.clone();
        for (key, field) in self.rest() {
            let hint = match nearest(&key.name, known.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known here: {}", known.join(", ")),
            };
            report.warning(
                Origin::File { line: key.line },
                field.path,
                "",
                format!("unknown key, ignored; {hint}"),
            );
        }
    }
}

/// The items of a list; anything else is a mistake.
pub(super) fn items<'a>(field: &Field<'a>, report: &mut Report) -> Vec<Field<'a>> {
    let Value::List(items) = &field.node.value else {
        report.mistake(
            field.origin(),
            field.path.as_str(),
            field.node.shown(),
            "is not a list (- item)",
        );
        return Vec::new();
    };
    let item = |(number, node)| Field { path: format!("{}[{number}]", field.path), node };
    items.iter().enumerate().map(item).collect()
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
