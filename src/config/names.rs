//! Resource names and patterns as a config file writes them: the prefix is added, and every length is checked with the
//! suffix that comes later.

use crate::device::names::ResourceName;

/// The domain of every resource that this plugin offers.
pub(super) const DOMAIN: &str = "nvidia.com/";
/// What `renameByDefault` appends.
pub(super) const SHARED: &str = ".shared";
/// Longest name with its domain: NVIDIA's rule, and the longest label value.
const LONGEST: usize = 63;

/// The resource that `text` names. A text without the domain gets it.
pub(super) fn resource_name(text: &str) -> Result<ResourceName, String> {
    if text.is_empty() {
        return Err("is empty; a resource name such as nvidia.com/gpu is asked for".to_owned());
    }
    let name = if text.starts_with(DOMAIN) { text.to_owned() } else { format!("{DOMAIN}{text}") };
    let base = &name[DOMAIN.len()..];
    if base.contains('/') {
        return Err(format!("names another domain; every resource is {DOMAIN}<name>"));
    }
    if name.len() > LONGEST {
        return Err(format!("makes {name:?}, which has {} characters; at most {LONGEST} are allowed", name.len()));
    }
    let lower = base.bytes().all(|b| !b.is_ascii_uppercase() && b != b'_');
    if !lower || base.split('.').any(|label| label.is_empty() || label.starts_with('-') || label.ends_with('-')) {
        return Err(
            "is not a DNS subdomain: lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part"
                .to_owned(),
        );
    }
    name.parse().map_err(|error: crate::device::names::NameError| format!("cannot be used: {error}"))
}

/// The name under which replicas of `name` are offered with `renameByDefault`.
pub(super) fn shared_name(name: &ResourceName) -> Result<ResourceName, String> {
    let long = format!("{name}{SHARED}");
    if long.len() > LONGEST {
        return Err(format!("becomes {long:?}, which has {} characters; at most {LONGEST} are allowed", long.len()));
    }
    resource_name(&long)
}

/// A pattern over GPU models or MIG profiles: `*` stands for anything, everything else for itself, and it has to match
/// from the first character to the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern that `text` writes.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether all of `text` fits.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == text };
        let (Some(mut text), Some((middle, last))) =
            (text.strip_prefix(first), Some(rest.rsplit_once('*').unwrap_or(("", rest))))
        else {
            return false;
        };
        for part in middle.split('*') {
            match text.find(part) {
                Some(place) => text = &text[place + part.len()..],
                None => return false,
            }
        }
        text.ends_with(last)
    }
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

    /// NVIDIA's plugin, "1.6 Resource naming": Pattern.
    #[test]
    fn patterns_are_anchored_and_only_the_star_is_special() {
        for (pattern, text, expected) in [
            ("*", "NVIDIA H100 80GB HBM3", true),
            ("*", "", true),
            ("*H100*", "NVIDIA H100 80GB HBM3", true),
            ("NVIDIA*HBM3", "NVIDIA H100 80GB HBM3", true),
            ("*A100*40GB", "NVIDIA A100-SXM4-40GB", true),
            ("A100", "NVIDIA A100-SXM4-40GB", false),
            ("NVIDIA*", "Tesla V100", false),
            ("1g.5gb", "1g.5gb", true),
            ("1g.5gb", "1gx5gb", false),
            ("1g.*", "1g.10gb+me", true),
            ("a*a", "a", false),
            ("a**a", "aa", true),
            ("*ab*ab", "ab", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} on {text}");
        }
    }
}
