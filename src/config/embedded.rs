//! Configurations inside other documents: under the keys of a ConfigMap, and in the values of a
//! Helm chart.

use super::scalar::Meaning;
use super::tree::{self, Key, Node, Scalar, Value};

/// How deep the values of a chart are searched: those of a chart in a chart are two deeper.
const DEEPEST: usize = 4;

/// A configuration inside a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Embedded {
    /// The path of its key: `data.config.yaml`, `config.map.default`.
    pub(super) key: String,
    /// Its text, or why it is none.
    pub(super) text: Result<String, String>,
    /// The line on which it stands; of a block, its first one that is not empty.
    pub(super) line: u32,
    /// Whether its lines are those of the document: then empty lines before it make up for those
    /// above it.
    pub(super) has_lines: bool,
}

/// The configurations in a document that is none itself; nothing, if it is no such document.
pub(super) fn find(text: &str) -> Vec<Embedded> {
    let Ok(documents) = tree::read_all(text) else { return Vec::new() };
    let mut found = Vec::new();
    if documents.iter().any(|document| kubernetes_kind(document).is_some()) {
        documents.iter().for_each(|document| in_object(document, &mut found));
    } else if let Some(document) = documents.first() {
        in_values(document, "", 0, &mut found);
    }
    found
}

/// What a document is that is no configuration, with the line that shows it.
pub(super) fn other_document(root: &Node) -> Option<(u32, String)> {
    if let Some((line, kind)) = kubernetes_kind(root) {
        let problem = format!(
            "this is a Kubernetes object (kind: {kind:?}) and no configuration: of a ConfigMap the \
             plugin reads the text under one key of its data, as a mounted volume has it"
        );
        return Some((line, problem));
    }
    let mut found = Vec::new();
    in_values(root, "", 0, &mut found);
    let first = found.first()?;
    let problem = format!(
        "these are the values of a Helm chart and no configuration: the plugin reads the text \
         under {}",
        first.key
    );
    Some((first.line, problem))
}

/// The keys of a configuration, of which a file has one at least. Helm values have `resources` too,
/// which are others.
const KEYS: [&str; 7] = ["version", "flags", "sharing", "imex", "health", "devices", "commandLine"];

/// What is wrong with a document that has keys and none of a configuration.
pub(super) fn without_keys(text: &str) -> Option<(u32, String)> {
    let root = tree::read(text).ok()?.root?;
    let Value::Map(entries) = &root.value else { return None };
    let is_ours =
        |(key, _): &(Key, Node)| KEYS.iter().any(|own| key.name.eq_ignore_ascii_case(own));
    if entries.is_empty() || entries.iter().any(is_ours) {
        return None;
    }
    let problem = format!(
        "this is no configuration: it has none of the keys {}; in Helm values the configuration \
         is a text under config.map",
        KEYS[..6].join(", ")
    );
    Some((root.line, problem))
}

/// The kind of a Kubernetes object, and its line.
fn kubernetes_kind(node: &Node) -> Option<(u32, &str)> {
    get(node, "apiVersion")?;
    let kind = get(node, "kind")?;
    Some((kind.line, text(kind)?))
}

fn in_object(node: &Node, found: &mut Vec<Embedded>) {
    if let Some(items) = get(node, "items") {
        let Value::List(items) = &items.value else { return };
        return items.iter().for_each(|item| in_object(item, found));
    }
    if kubernetes_kind(node).is_some_and(|(_, kind)| kind == "ConfigMap")
        && let Some(data) = get(node, "data")
    {
        each("data", data, found);
    }
}

/// The configurations in the values of a chart: texts under `map` or `data` of `config`, as the
/// charts of NVIDIA's plugin and of the GPU Operator have them, or `config` itself.
fn in_values(node: &Node, path: &str, depth: usize, found: &mut Vec<Embedded>) {
    let Value::Map(entries) = &node.value else { return };
    for (key, node) in entries {
        let path = match path {
            "" => key.name.clone(),
            path => format!("{path}.{}", key.name),
        };
        match (&node.value, key.name.as_str()) {
            (Value::Scalar(Scalar { is_literal: true, .. }), "config") => {
                found.push(embedded(path, node));
            }
            (Value::Map(_), "config") => {
                let lists = ["map", "data"].iter();
                let lists = lists.filter_map(|name| Some((name, get(node, name)?)));
                lists.for_each(|(name, texts)| each(&format!("{path}.{name}"), texts, found));
            }
            (Value::Map(_), _) if depth < DEEPEST => in_values(node, &path, depth + 1, found),
            _ => {}
        }
    }
}

/// Every text of a mapping.
fn each(path: &str, texts: &Node, found: &mut Vec<Embedded>) {
    let Value::Map(entries) = &texts.value else { return };
    let each = entries.iter().map(|(key, node)| embedded(format!("{path}.{}", key.name), node));
    found.extend(each);
}

fn embedded(key: String, node: &Node) -> Embedded {
    let (text, has_lines) = match &node.value {
        Value::Scalar(Scalar { meaning: Meaning::Null, .. }) => (Ok(String::new()), false),
        Value::Scalar(Scalar { text, is_literal, .. }) => (Ok(text.clone()), *is_literal),
        _ => {
            let name = key.rsplit('.').next().unwrap_or(&key);
            let problem = format!(
                "is {}, and a text is expected here: write `{name}: |` and the configuration \
                 below it, indented",
                node.shown()
            );
            (Err(problem), false)
        }
    };
    Embedded { key, text, line: node.line, has_lines }
}

fn get<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    let Value::Map(entries) = &node.value else { return None };
    let is_it = |(key, _): &&(Key, Node)| key.name == name;
    entries.iter().find(is_it).map(|(_, node)| node)
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar(scalar) => Some(&scalar.text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        find(text).into_iter().map(|found| found.key).collect()
    }

    #[test]
    fn configurations_are_found_where_objects_and_charts_have_them() {
        let map = "apiVersion: v1\nkind: ConfigMap\ndata:\n  a.yaml: |\n    version: v1\n  b: ''\n";
        assert_eq!(keys(map), ["data.a.yaml", "data.b"]);
        let several = format!("kind: Namespace\napiVersion: v1\n---\n{map}---\n# nothing\n");
        assert_eq!(keys(&several), ["data.a.yaml", "data.b"]);
        let list = "kind: List\napiVersion: v1\nitems:\n- {kind: ConfigMap, apiVersion: v1, data: \
                    {x: ''}}\n";
        assert_eq!(keys(list), ["data.x"]);
        for (values, expected) in [
            ("config: {map: {default: '', a100: ''}}", &["config.map.default", "config.map.a100"]),
            (
                "devicePlugin: {config: {data: {a: '', b: ''}}}",
                &["devicePlugin.config.data.a", "devicePlugin.config.data.b"],
            ),
        ] {
            assert_eq!(keys(values), expected);
        }
        assert_eq!(keys("image: x\nconfig: |\n  version: v1\n"), ["config"]);
    }

    #[test]
    fn other_documents_have_none() {
        for text in [
            "",
            "version: v1\nflags: {migStrategy: none}\n",
            "kind: DaemonSet\napiVersion: apps/v1\nspec: {}\n",
            "kind: ConfigMap\napiVersion: v1\n",
            "config: {name: x}\n",
            "[1, 2]",
            "a: *b",
        ] {
            assert_eq!(keys(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn the_lines_of_a_block_are_those_of_the_document() {
        let found =
            find("apiVersion: v1\nkind: ConfigMap\ndata:\n  a: |-\n    version: v1\n  b: x\n");
        let lines: Vec<_> = found.iter().map(|found| (found.line, found.has_lines)).collect();
        assert_eq!(lines, [(5, true), (6, false)]);
    }
}
