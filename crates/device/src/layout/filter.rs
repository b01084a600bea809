//! Which GPUs are offered: terms that include and terms that exclude, by index, UUID, PCI bus id or
//! model. An excluded GPU is reserved for the system.

use std::fmt;

use crate::identity::KnownGpu;
use crate::names::{PciBusId, Uuid};

/// A set of GPUs, by one of their facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// The GPUs that had an index from the first to the last when they were first seen on this
    /// boot.
    Index(u32, u32),
    /// The GPU with this UUID.
    Uuid(Uuid),
    /// The GPU with this PCI bus id.
    PciBusId(PciBusId),
    /// Every GPU whose model name matches.
    Model(Pattern),
}

impl Term {
    /// Whether the term includes `gpu`. A GPU without model name or PCI bus id matches no term
    /// about that. An index is the one that the GPU is bound to on this boot.
    #[must_use]
    pub fn matches(&self, gpu: KnownGpu<'_>) -> bool {
        let index = gpu.record.binding.index;
        match self {
            Self::Index(first, last) => index.is_some_and(|at| (*first..=*last).contains(&at)),
            Self::Uuid(uuid) => uuid.as_str().eq_ignore_ascii_case(gpu.uuid.as_str()),
            Self::PciBusId(id) => gpu.record.pci_bus_id() == Some(*id),
            Self::Model(pattern) => gpu.model().is_some_and(|name| pattern.matches(name)),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(first, last) if first == last => write!(f, "{first}"),
            Self::Index(first, last) => write!(f, "{first}-{last}"),
            Self::Uuid(uuid) => write!(f, "{uuid}"),
            Self::PciBusId(id) => write!(f, "{id}"),
            Self::Model(pattern) => write!(f, "model={}", pattern.as_str()),
        }
    }
}

/// Terms that include and terms that exclude. Without any, every GPU is offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    /// A GPU has to match one of these, if there are any.
    pub include: Vec<Term>,
    /// A GPU must match none of these.
    pub exclude: Vec<Term>,
}

impl DeviceFilter {
    /// Why `gpu` is not offered, if so.
    #[must_use]
    pub fn reserves(&self, gpu: KnownGpu<'_>) -> Option<String> {
        if let Some(term) = self.exclude.iter().find(|term| term.matches(gpu)) {
            return Some(format!("excluded by {term}"));
        }
        let included = self.include.is_empty() || self.include.iter().any(|term| term.matches(gpu));
        (!included).then(|| "no term includes it".to_owned())
    }
}

/// A pattern for GPU models or MIG profiles: `*` matches any text, everything else only itself, and
/// the pattern has to match the whole text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern with this text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text of the pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `text` matches.
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
                Some(at) => text = &text[at + part.len()..],
                None => return false,
            }
        }
        text.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("*.toml", "99-nvidia.toml", true),
            ("*.toml", ".toml", true),
            ("*.toml", "a.toml.bak", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "ac", false),
            ("config.toml", "config.toml", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} on {text}");
        }
    }
}
