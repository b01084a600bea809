//! The flags of the plugin's command line, as the variables that mean the same.

use std::collections::BTreeMap;

use serde_json::Value;

use super::migration::Migration;
use crate::config::settings::{self, Shape};

/// The flags of the command line, under the names of their variables.
pub(super) fn flags(migration: &mut Migration, container: &Value) -> BTreeMap<String, String> {
    let words: Vec<&str> = ["command", "args"]
        .iter()
        .filter_map(|key| container[*key].as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let mut rest = words.into_iter().peekable();
    while let Some(word) = rest.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            if !word.ends_with("nvidia-device-plugin") {
                migration.note(format!("command {word:?}"), "left out: it is no flag");
            }
            continue;
        };
        let (name, value) = flag.split_once('=').map_or((flag, None), |(n, v)| (n, Some(v)));
        let setting = settings::all()
            .find(|setting| setting.flag == Some(name) || setting.aliases.contains(&name));
        let Some(setting) = setting else {
            migration.note(format!("--{name}"), "left out: no such flag is known");
            continue;
        };
        let value = match (value, setting.shape) {
            (Some(value), _) => value,
            (None, Shape::Switch) => "true",
            (None, _) => rest.next_if(|word| !word.starts_with('-')).unwrap_or_default(),
        };
        let Some(variable) = setting.env.first() else { continue };
        let text = texts.entry((*variable).to_owned()).or_default();
        match setting.shape {
            Shape::List if !text.is_empty() => text.push_str(&format!(",{value}")),
            _ => *text = value.to_owned(),
        }
    }
    texts
}
