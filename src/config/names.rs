//! Resource names in a config file: the prefix is added, and every length is checked with the
//! suffix that comes later; and the file's key `resources`, names for GPU models and MIG profiles.

use device::layout::filter::Pattern;
use device::layout::{Layout, NamePattern};
use device::names::ResourceName;

use super::fields::{self, Field, Fields};
use super::report::Context;
use super::tree::Node;
use super::value::{self, Parsed};

/// The domain of every resource that this plugin offers.
const DOMAIN: &str = "nvidia.com/";
/// What `renameByDefault` appends.
const SHARED: &str = ".shared";
/// Longest name with its domain: NVIDIA's rule, and the longest label value.
const LONGEST: usize = 63;

/// The resource that `text` names. A text without the domain gets it.
fn resource_name(text: &str) -> Result<ResourceName, String> {
    if text.is_empty() {
        return Err("is empty; expected a resource name such as nvidia.com/gpu".to_owned());
    }
    let name = if text.starts_with(DOMAIN) { text.to_owned() } else { format!("{DOMAIN}{text}") };
    let base = &name[DOMAIN.len()..];
    if base.contains('/') {
        return Err(format!("names another domain; every resource is {DOMAIN}<name>"));
    }
    check_length("makes", &name)?;
    if base.contains('+') {
        let written = name.replace('+', ".");
        return Err(format!("has a '+', which no resource name has: write {written}"));
    }
    let is_label =
        |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    let lower = base.bytes().all(|b| !b.is_ascii_uppercase() && b != b'_');
    if !lower || !base.split('.').all(is_label) {
        let problem = "is not a DNS subdomain: lower-case letters, digits, '-' and '.', with a \
            letter or digit at both ends of each part";
        return Err(problem.to_owned());
    }
    name.parse().map_err(|error: device::names::NameError| format!("cannot be used: {error}"))
}

/// The resource name in a config file.
pub(super) fn parse_name(node: &Node) -> Parsed<ResourceName> {
    let text = value::node_text(node)?;
    resource_name(text).or_else(|problem| value::invalid_text(text, problem))
}

/// The name under which replicas of `name` are offered with `renameByDefault`.
pub(super) fn shared_name(name: &ResourceName) -> Result<ResourceName, String> {
    let long = format!("{name}{SHARED}");
    check_length("becomes", &long)?;
    resource_name(&long)
}

fn check_length(verb: &str, name: &str) -> Result<(), String> {
    match name.len() {
        ..=LONGEST => Ok(()),
        length => Err(format!(
            "{verb} {name:?}, which has {length} characters; at most {LONGEST} are allowed"
        )),
    }
}

/// Reads the key `resources` into `layout`. Without `custom` it is checked and then ignored.
pub(super) fn read_resources(
    field: &Field<'_>,
    custom: bool,
    layout: &mut Layout,
    context: &mut Context,
) {
    let Some(mut fields) = Fields::open(&field.path, field.node, context) else { return };
    let mut list =
        |name| fields.take(name, context).map(|list| patterns(&list, context)).unwrap_or_default();
    let (gpu_names, mig_names) = (list("gpus"), list("mig"));
    fields.finish(context);
    if custom {
        (layout.gpu_names, layout.mig_names) = (gpu_names, mig_names);
        return;
    }
    let problem = "is ignored, as NVIDIA's plugin ignores it, without \
                   flags.plugin.customResources: true";
    context.warning(field.origin(), field.path.as_str(), "", problem);
    context.origins.retain(|key, _| !key.starts_with("resources."));
}

fn patterns(list: &Field<'_>, context: &mut Context) -> Vec<NamePattern> {
    let mut names: Vec<NamePattern> = Vec::new();
    for entry in fields::items(list, context) {
        let Some(mut fields) = Fields::open(&entry.path, entry.node, context) else { continue };
        let expected = "a GPU model or MIG profile, * for anything";
        let pattern = fields.require("pattern", expected, &entry, value::node_text, context);
        let name = fields.require("name", "the resource name", &entry, parse_name, context);
        fields.finish(context);
        let (Some(pattern), Some(name)) = (pattern, name) else { continue };
        let earlier = |earlier: &NamePattern| ["*", pattern].contains(&earlier.pattern.as_str());
        if names.iter().any(earlier) {
            let problem = "is never reached: a pattern before it matches the same devices";
            let path = format!("{}.pattern", entry.path);
            context.warning(entry.origin(), path, format!("{pattern:?}"), problem);
        }
        names.push(NamePattern { pattern: Pattern::new(pattern), name });
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NVIDIA's plugin, "1.6 Resource naming": Prefix and Length.
    #[test]
    fn names_follow_section_1_6() {
        for (text, expected) in [
            ("gpu", "nvidia.com/gpu"),
            ("nvidia.com/gpu", "nvidia.com/gpu"),
            ("mig-1g.10gb.me", "nvidia.com/mig-1g.10gb.me"),
            (&"a".repeat(52), &format!("nvidia.com/{}", "a".repeat(52))),
        ] {
            assert_eq!(resource_name(text).unwrap().as_str(), expected);
        }
        for (text, says) in [
            ("", "is empty"),
            ("amd.com/gpu", "names another domain"),
            ("nvidia.com/", "is not a DNS subdomain"),
            ("GPU", "is not a DNS subdomain"),
            ("a_b", "is not a DNS subdomain"),
            ("mig-1g.10gb+me", "write nvidia.com/mig-1g.10gb.me"),
            ("nvidia.com/mig-1g.24gb+gfx", "write nvidia.com/mig-1g.24gb.gfx"),
            ("gpu.", "is not a DNS subdomain"),
            (&"a".repeat(53), "has 64 characters"),
        ] {
            let error = resource_name(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn the_shared_suffix_counts_in_the_length() {
        let fits = resource_name(&"a".repeat(45)).unwrap();
        assert_eq!(shared_name(&fits).unwrap().as_str().len(), 63);
        let long = resource_name(&"a".repeat(46)).unwrap();
        assert!(shared_name(&long).unwrap_err().contains("has 64 characters"));
    }
}
