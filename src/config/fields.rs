//! The keys of one mapping in a config file: each is taken by name, whatever its case, and for each
//! that is left over there is a warning.

use super::nearest::nearest;
use super::places;
use super::report::{Context, Origin};
use super::tree::{Key, Node, Value};
use super::value::Parsed;

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

impl<'a> Field<'a> {
    /// Its line.
    pub(super) fn origin(&self) -> Origin {
        Origin::File { line: self.node.line }
    }

    /// The value that `parse` finds, with its origin; every error is a mistake.
    pub(super) fn parse<T>(
        &self,
        parse: impl FnOnce(&'a Node) -> Parsed<T>,
        context: &mut Context,
    ) -> Option<T> {
        match parse(self.node) {
            Ok(value) => {
                context.origins.insert(self.path.clone(), self.origin());
                Some(value)
            }
            Err(errors) => {
                for error in errors {
                    let line = error.line.unwrap_or(self.node.line);
                    let path = format!("{}{}", self.path, error.at);
                    context.mistake(Origin::File { line }, path, error.value, error.problem);
                }
                None
            }
        }
    }
}

impl<'a> Fields<'a> {
    /// The keys of `node`; anything but a mapping is a mistake.
    pub(super) fn open(path: &str, node: &'a Node, context: &mut Context) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let origin = Origin::File { line: node.line };
            context.mistake(origin, path, node.shown(), "is not a mapping (key: value)");
            return None;
        };
        let entries = entries.iter().map(|(key, node)| (key, node, false)).collect();
        Some(Self { path: path.to_owned(), entries, known: Vec::new() })
    }

    /// The value of `name`, unless it is missing or null. If it is there twice, the last one is
    /// used, with a warning.
    pub(super) fn take(&mut self, name: &'static str, context: &mut Context) -> Option<Field<'a>> {
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
                context.warning(Origin::File { line: earlier.line }, path.as_str(), "", problem);
            }
        }
        found.filter(|(_, node)| !node.is_null()).map(|(_, node)| Field { path, node })
    }

    /// Warns of every key that was not taken.
    pub(super) fn finish(self, context: &mut Context) {
        for (key, ..) in self.entries.iter().filter(|(_, _, taken)| !taken) {
            let origin = Origin::File { line: key.line };
            if context.has_all_warnings() {
                context.warning(origin, "", "", "");
                continue;
            }
            let hint = places::hint(&self.path, &key.name).unwrap_or_else(|| {
                match nearest(&key.name, self.known.iter().copied()) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("known here: {}", self.known.join(", ")),
                }
            });
            let problem = format!("unknown key, ignored; {hint}");
            context.warning(origin, joined(&self.path, &key.name), "", problem);
        }
    }

    /// What `parse` finds in the value of `name`; if it is missing, that is a mistake in `entry`.
    pub(super) fn require<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        entry: &Field<'_>,
        parse: impl FnOnce(&'a Node) -> Parsed<T>,
        context: &mut Context,
    ) -> Option<T> {
        if let Some(field) = self.take(name, context) {
            return field.parse(parse, context);
        }
        let path = joined(&self.path, name);
        context.mistake(entry.origin(), path, "", format!("is missing: {expected}"));
        None
    }
}

/// The items of a list; anything else is a mistake.
pub(super) fn items<'a>(field: &Field<'a>, context: &mut Context) -> Vec<Field<'a>> {
    let Value::List(items) = &field.node.value else {
        let problem = "is not a list (- item)";
        context.mistake(field.origin(), field.path.as_str(), field.node.shown(), problem);
        return Vec::new();
    };
    let item = |(number, node)| Field { path: format!("{}[{number}]", field.path), node };
    items.iter().enumerate().map(item).collect()
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
