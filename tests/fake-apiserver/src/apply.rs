//! The fields of an object as server-side apply sees them: each leaf with its path, where the
//! conditions of a Node are a map by type and all other lists are one value.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The path of a field.
pub(crate) type Leaf = Vec<Step>;

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Field(String),
    /// The condition of this type.
    Condition(String),
}

/// The path as structured-merge-diff writes it.
pub(crate) fn display(leaf: &Leaf) -> String {
    let step = |step: &Step| match step {
        Step::Field(name) => format!(".{name}"),
        Step::Condition(kind) => format!("[type={}]", json!(kind)),
    };
    leaf.iter().map(step).collect()
}

/// Adds a field to a set as managedFields has it (FieldsV1).
pub(crate) fn add_field(set: &mut Value, leaf: &[Step]) {
    let mut at = set;
    for step in leaf {
        let key = match step {
            Step::Field(name) => format!("f:{name}"),
            Step::Condition(kind) => format!("k:{}", json!({"type": kind})),
        };
        at = &mut at[key];
    }
    *at = json!({});
}

/// All leaves but what identifies the object and what the server writes.
pub(crate) fn leaves(object: &Value) -> BTreeMap<Leaf, Value> {
    let mut found = BTreeMap::new();
    collect(object, &mut Vec::new(), &mut found);
    found.retain(|leaf, _| match &leaf[..] {
        [Step::Field(field)] => field != "apiVersion" && field != "kind",
        [Step::Field(metadata), Step::Field(field), ..] if metadata == "metadata" => {
            matches!(field.as_str(), "labels" | "annotations" | "ownerReferences")
        }
        _ => true,
    });
    found
}

fn collect(value: &Value, path: &mut Leaf, found: &mut BTreeMap<Leaf, Value>) {
    let is_conditions = path.last() == Some(&Step::Field("conditions".to_owned()));
    match value {
        // One without fields changes nothing.
        Value::Object(map) => {
            for (name, value) in map {
                path.push(Step::Field(name.clone()));
                collect(value, path, found);
                path.pop();
            }
        }
        Value::Array(items) if is_conditions => {
            for item in items {
                path.push(Step::Condition(item["type"].as_str().unwrap().to_owned()));
                collect(item, path, found);
                path.pop();
            }
        }
        value => drop(found.insert(path.clone(), value.clone())),
    }
}

/// Sets a field, and makes what is above it.
pub(crate) fn set(object: &mut Value, leaf: &[Step], value: Value) {
    let Some((first, rest)) = leaf.split_first() else {
        *object = value;
        return;
    };
    let child = match first {
        Step::Field(name) => {
            if !object.is_object() {
                *object = Value::Object(Map::new());
            }
            &mut object[name.as_str()]
        }
        Step::Condition(kind) => {
            if !object.is_array() {
                *object = Value::Array(Vec::new());
            }
            let items = object.as_array_mut().unwrap();
            let there = items.iter().position(|item| item["type"] == **kind);
            let at = there.unwrap_or_else(|| {
                items.push(json!({"type": kind}));
                items.len() - 1
            });
            &mut items[at]
        }
    };
    set(child, rest, value);
}

/// Removes a field, and a condition of which nothing but the type is left.
pub(crate) fn remove(object: &mut Value, leaf: &[Step]) {
    match leaf {
        [Step::Field(name)] => drop(object.as_object_mut().map(|map| map.remove(name))),
        [Step::Field(name), rest @ ..] => {
            if let Some(child) = object.get_mut(name.as_str()) {
                remove(child, rest);
            }
        }
        [Step::Condition(kind), rest @ ..] => {
            let Some(items) = object.as_array_mut() else { return };
            if let Some(item) = items.iter_mut().find(|item| item["type"] == **kind) {
                remove(item, rest);
            }
            items.retain(|item| item["type"] != **kind || item.as_object().unwrap().len() > 1);
            // The type itself is a field of the condition too.
            items.retain(|item| item.get("type").is_some());
        }
        [] => {}
    }
}
