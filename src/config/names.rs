//! Resource names and patterns as a config file writes them: the prefix is added, and every length
//! is checked with the suffix that comes later.

use device::names::ResourceName;

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
    if name.len() > LONGEST {
        return Err(format!(
            "makes {name:?}, which has {} characters; at most {LONGEST} are allowed",
            name.len()
        ));
    }
    let lower = base.bytes().all(|b| !b.is_ascii_uppercase() && b != b'_');
    if !lower
        || base
            .split('.')
            .any(|label| label.is_empty() || label.starts_with('-') || label.ends_with('-'))
    {
        return Err(
            "is not a DNS subdomain: lower-case letters, digits, '-' and '.', with a letter or \
                digit at both ends of each part"
                .to_owned(),
        );
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
    if long.len() > LONGEST {
        return Err(format!(
            "becomes {long:?}, which has {} characters; at most {LONGEST} are allowed",
            long.len()
        ));
    }
    resource_name(&long)
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
            ("mig-1g.10gb+me", "cannot be used"),
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
