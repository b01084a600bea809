//! The allocation policies, and their names on the command line and in the config file.

use std::fmt;
use std::str::FromStr;

/// A text that names no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an allocation policy ({known} is)")]
pub struct PolicyError {
    text: String,
    known: &'static str,
}

/// How whole GPUs are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WholeGpuPolicy {
    /// By the links between them: best for the request, then best for later ones.
    #[default]
    Optimal,
    /// By NUMA node alone, as if no links were known.
    Numa,
    /// The lowest indices.
    Index,
}

/// How replicas and MIG devices are chosen, counted by physical GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SharedPolicy {
    /// The GPU with the least in use, one device at a time.
    #[default]
    Distributed,
    /// The fullest GPU on which the request fits.
    Packed,
    /// Never two of one request on one GPU while another has a free device.
    Spread,
}

impl WholeGpuPolicy {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::Optimal, Self::Numa, Self::Index];

    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Optimal => "optimal",
            Self::Numa => "numa",
            Self::Index => "index",
        }
    }
}

impl SharedPolicy {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::Distributed, Self::Packed, Self::Spread];

    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Distributed => "distributed",
            Self::Packed => "packed",
            Self::Spread => "spread",
        }
    }
}

impl FromStr for WholeGpuPolicy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let found = Self::ALL.into_iter().find(|policy| policy.as_str() == text);
        found.ok_or_else(|| PolicyError { text: text.to_owned(), known: "optimal, numa or index" })
    }
}

impl FromStr for SharedPolicy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let found = Self::ALL.into_iter().find(|policy| policy.as_str() == text);
        found.ok_or_else(|| PolicyError {
            text: text.to_owned(),
            known: "distributed, packed or spread",
        })
    }
}

impl fmt::Display for WholeGpuPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SharedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The policies for whole GPUs and for shared devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AllocationPolicy {
    /// For whole GPUs.
    pub whole: WholeGpuPolicy,
    /// For replicas and MIG devices.
    pub shared: SharedPolicy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for policy in WholeGpuPolicy::ALL {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        for policy in SharedPolicy::ALL {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = "best".parse::<WholeGpuPolicy>().unwrap_err();
        assert_eq!(
            error.to_string(),
            r#""best" is not an allocation policy (optimal, numa or index is)"#
        );
        assert!("Packed".parse::<SharedPolicy>().is_err());
    }
}
