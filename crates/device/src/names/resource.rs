//! Names of extended resources.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::NameError;

/// Name of an extended resource, e.g. `nvidia.com/gpu`.
///
/// Well formed by the kubelet's rule (`IsExtendedResourceName`,
/// pkg/apis/core/v1/helper/helpers.go:39): a name with a domain, not under `kubernetes.io/`, whose
/// domain is a DNS subdomain of at most 253 characters with `requests.` before it, and whose name
/// part is at most 63 characters of `[A-Za-z0-9_.-]` that begin and end with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(Arc<str>);

impl ResourceName {
    /// `nvidia.com/gpu`.
    #[must_use]
    pub fn gpu() -> Self {
        Self("nvidia.com/gpu".into())
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the slash: `gpu` of `nvidia.com/gpu`.
    #[must_use]
    pub fn base(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl FromStr for ResourceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match problem(text) {
            None => Ok(Self(text.into())),
            Some(why) => Err(NameError::new(text, format!("is not a resource name: {why}"))),
        }
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a resource name, if so.
fn problem(text: &str) -> Option<&'static str> {
    let Some((domain, base)) = text.split_once('/') else {
        return Some("it has no domain (domain/name is required)");
    };
    if text.contains("kubernetes.io/") {
        Some("kubernetes.io is reserved for Kubernetes itself")
    } else if text.starts_with("requests.") {
        Some("it begins with \"requests.\", which resource quotas use")
    } else if "requests.".len() + domain.len() > 253 || !is_dns_subdomain(domain) {
        Some("its domain is not a DNS subdomain of at most 244 characters")
    } else if base.len() > 63 || !is_qualified(base) {
        Some(
            "its name part is not 1 to 63 letters, digits, '-', '_' and '.' with a letter or digit \
             at both ends",
        )
    } else {
        None
    }
}

fn is_dns_subdomain(text: &str) -> bool {
    text.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

fn is_qualified(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_names_follow_the_kubelets_rule() {
        let long = format!("nvidia.com/{}", "a".repeat(63));
        for text in [
            "nvidia.com/gpu",
            "nvidia.com/gpu.shared",
            "nvidia.com/mig-1g.10gb.me",
            "nvidia.com/A_1",
            &long,
        ] {
            assert_eq!(text.parse::<ResourceName>().unwrap().as_str(), text);
        }
        let long = format!("nvidia.com/{}", "a".repeat(64));
        let wide = format!("{}.com/gpu", ["a"; 122].join("."));
        for text in [
            "gpu",
            "/gpu",
            "nvidia.com/",
            "kubernetes.io/gpu",
            "x.kubernetes.io/gpu",
            "requests.nvidia.com/gpu",
            "Nvidia.com/gpu",
            "nvidia..com/gpu",
            "-nvidia.com/gpu",
            "nvidia.com/-gpu",
            "nvidia.com/gpu.",
            "nvidia.com/mig-1g.10gb+me",
            "a/b/c",
            &long,
            &wide,
        ] {
            assert!(text.parse::<ResourceName>().is_err(), "{text:?}");
        }
    }
}
