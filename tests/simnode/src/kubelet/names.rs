//! What the API machinery accepts as the name of an extended resource.

/// The prefix that a resource quota puts before the name; the name must be valid with it, too.
const QUOTA_PREFIX: &str = "requests.";

/// True for a name that a device plugin may register: it has a prefix, is not one of Kubernetes'
/// own, and is a qualified name also with the quota's `requests.` before it.
pub fn is_extended_resource_name(name: &str) -> bool {
    name.contains('/')
        && !name.contains("kubernetes.io/")
        && !name.starts_with(QUOTA_PREFIX)
        && is_qualified_name(&format!("{QUOTA_PREFIX}{name}"))
}

/// `prefix/name`, or `name` alone.
fn is_qualified_name(text: &str) -> bool {
    match text.split('/').collect::<Vec<_>>()[..] {
        [name] => is_name_part(name),
        [prefix, name] => is_dns_subdomain(prefix) && is_name_part(name),
        _ => false,
    }
}

fn is_name_part(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.ends_with(|last: char| last.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// A label of a subdomain; its own length is not limited.
fn is_dns_label(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match text.as_bytes() {
        [] => false,
        [only] => alphanumeric(*only),
        [first, middle @ .., last] => {
            alphanumeric(*first)
                && alphanumeric(*last)
                && middle.iter().all(|byte| alphanumeric(*byte) || *byte == b'-')
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_extended_resource_name;

    #[test]
    fn accepts_what_the_api_machinery_accepts() {
        let longest_name = format!("nvidia.com/{}", "a".repeat(63));
        // 253 characters with "requests." before it.
        let longest_prefix = format!("{}/gpu", "a".repeat(253 - "requests.".len()));
        for name in [
            "nvidia.com/gpu",
            "nvidia.com/mig-1g.10gb",
            "a/B_c.d",
            "x/1",
            &longest_name,
            &longest_prefix,
        ] {
            assert!(is_extended_resource_name(name), "{name}");
        }
    }

    #[test]
    fn refuses_what_the_api_machinery_refuses() {
        let long_name = format!("nvidia.com/{}", "a".repeat(64));
        let long_prefix = format!("{}/gpu", "a".repeat(253 - "requests.".len() + 1));
        for name in [
            "",
            "gpu",
            "/gpu",
            "nvidia.com/",
            "nvidia.com/gpu/x",
            "kubernetes.io/gpu",
            "node.kubernetes.io/gpu",
            "requests.nvidia.com/gpu",
            "NVIDIA.com/gpu",
            "nvidia..com/gpu",
            "-nvidia.com/gpu",
            "nvidia.com/-gpu",
            "nvidia.com/gpu_",
            "nvidia.com/g pu",
            "nvidia.com/g\u{fc}",
            &long_name,
            &long_prefix,
        ] {
            assert!(!is_extended_resource_name(name), "{name}");
        }
    }
}
