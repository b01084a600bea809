//! YAML and JSON documents of other programs.

use super::scalar::Meaning;
use super::tree::{self, Node, Scalar, Value};

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
