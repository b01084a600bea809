//! Which GPUs are offered: terms that include and terms that exclude, by index, UUID, PCI bus id or
//! model. What is excluded is reserved for the system.

use std::fmt;

use crate::gpu::Gpu;
use crate::names::{PciBusId, Uuid};

/// A set of GPUs, by what tells them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// NVML's indices from the first to the last.
    Index(u32, u32),
    /// The GPU with this UUID.
    Uuid(Uuid),
    /// The GPU in this place.
    PciBusId(PciBusId),
    /// Every GPU whose model name fits.
    Model(Pattern),
}

impl Term {
    /// Whether `gpu` is meant. A GPU that does not tell its model or place fits no term about them.
    #[must_use]
    pub fn matches(&self, gpu: &Gpu) -> bool {
        match self {
            Self::Index(first, last) => (*first..=*last).contains(&gpu.index),
            Self::Uuid(uuid) => uuid.as_str().eq_ignore_ascii_case(gpu.uuid.as_str()),
            Self::PciBusId(id) => gpu.pci_bus_id == Some(*id),
            Self::Model(pattern) => gpu.name.as_deref().is_some_and(|name| pattern.matches(name)),
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

/// What the filter says of one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It is offered.
    Offered,
    /// It is reserved for the system by this term, or because no term includes it.
    Reserved(Option<&'a Term>),
}

/// The terms of both kinds. Without any, every GPU is offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    /// A GPU has to fit one of these, if there is one.
    pub include: Vec<Term>,
    /// A GPU must fit none of these.
    pub exclude: Vec<Term>,
}

impl DeviceFilter {
    /// Whether `gpu` is offered, and which term says that it is not.
    #[must_use]
    pub fn verdict(&self, gpu: &Gpu) -> Verdict<'_> {
        if let Some(term) = self.exclude.iter().find(|term| term.matches(gpu)) {
            return Verdict::Reserved(Some(term));
        }
        if self.include.is_empty() || self.include.iter().any(|term| term.matches(gpu)) {
            return Verdict::Offered;
        }
        Verdict::Reserved(None)
    }
}

/// A pattern over GPU models or MIG profiles: `*` stands for anything, everything else for itself,
/// and it has to match from the first character to the last.
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
