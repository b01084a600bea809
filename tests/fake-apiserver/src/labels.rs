//! Validation of metadata, and selection by labels.

use std::collections::BTreeMap;

use serde_json::Value;

/// Whether the label selector of a query, of the form `name=value`, takes an object.
pub(crate) fn selects(query: &BTreeMap<String, String>, object: &Value) -> bool {
    let selector = query.get("labelSelector").map(String::as_str).unwrap_or_default();
    let mut requirements = selector.split(',').filter(|requirement| !requirement.is_empty());
    requirements.all(|requirement| {
        let (name, value) = requirement.split_once('=').expect("the fake knows name=value alone");
        object["metadata"]["labels"][name] == *value
    })
}

/// What is wrong with the labels of an object (apimachinery, `ValidateLabels`).
pub(crate) fn problem(object: &Value) -> Option<String> {
    let labels = object["metadata"]["labels"].as_object();
    labels.into_iter().flatten().find_map(|(name, value)| {
        let Some(value) = value.as_str() else {
            return Some(format!("metadata.labels: {name}: {value} is not a string"));
        };
        let base = match name.split_once('/') {
            Some((domain, base)) if is_subdomain(domain) => base,
            Some((domain, _)) => return Some(format!("metadata.labels: the domain {domain:?}")),
            None => name,
        };
        let right = !base.is_empty() && is_value(base) && is_value(value);
        (!right).then(|| format!("metadata.labels: Invalid value: {name:?}: {value:?}"))
    })
}

/// `IsValidLabelValue`, and with it the base of a qualified name.
pub(crate) fn is_value(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && ends(text.chars().next())
        && ends(text.chars().next_back())
}

/// `IsDNS1123Subdomain`.
pub(crate) fn is_subdomain(text: &str) -> bool {
    let label = |label: &str| {
        let ends =
            |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && ends(label.chars().next())
            && ends(label.chars().next_back())
    };
    text.len() <= 253 && text.split('.').all(label)
}
