//! Whether a GPU can be handed out, and why not.
//!
//! First form: Xids that come from applications are passed over, every other one makes the GPU Unhealthy until
//! the plugin starts anew; a GPU that answers with errors or is gone is Unhealthy as long as that is so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::gpu::Placement;

/// The number of an Xid, the error report of NVIDIA's kernel driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u64);

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Xid {}", self.0)
    }
}

/// Xids that NVIDIA's own plugin passes over by default (k8s-device-plugin, internal/rm/health.go:233-240).
const IGNORED: [Xid; 6] = [Xid(13), Xid(31), Xid(43), Xid(45), Xid(68), Xid(109)];

/// Which Xids make a GPU Unhealthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Every Xid is passed over unless it is enabled.
    all_disabled: bool,
    /// Every Xid counts, whatever is disabled.
    all_enabled: bool,
    disabled: BTreeSet<Xid>,
    enabled: BTreeSet<Xid>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { all_disabled: false, all_enabled: false, disabled: BTreeSet::from(IGNORED), enabled: BTreeSet::new() }
    }
}

impl Policy {
    /// The policy of the two environment variables `DP_DISABLE_HEALTHCHECKS` and `DP_ENABLE_HEALTHCHECKS`, and
    /// the words in them that mean nothing.
    ///
    /// Each is a comma list of Xid numbers, or `all` or `xids` for every Xid. What is disabled adds to the
    /// Xids that are passed over by default; what is enabled counts, whatever is disabled.
    #[must_use]
    pub fn from_lists(disable: &str, enable: &str) -> (Self, Vec<String>) {
        let mut policy = Self::default();
        let mut unknown = Vec::new();
        policy.all_disabled = read_list(disable, &mut policy.disabled, &mut unknown);
        policy.all_enabled = read_list(enable, &mut policy.enabled, &mut unknown);
        (policy, unknown)
    }

    /// Whether this Xid makes its GPU Unhealthy.
    #[must_use]
    pub fn is_fatal(&self, xid: Xid) -> bool {
        self.all_enabled || self.enabled.contains(&xid) || !(self.all_disabled || self.disabled.contains(&xid))
    }

    /// Whether there is anything to watch for.
    #[must_use]
    pub fn watches(&self) -> bool {
        !self.all_disabled || self.all_enabled || !self.enabled.is_empty()
    }
}

/// Adds the numbers of a comma list to `xids` and the meaningless words to `unknown`; true if the list says "all".
fn read_list(list: &str, xids: &mut BTreeSet<Xid>, unknown: &mut Vec<String>) -> bool {
    let mut all = false;
    for word in list.split(',').map(|word| word.trim().to_lowercase()).filter(|word| !word.is_empty()) {
        match word.parse() {
            _ if word == "all" || word == "xids" => all = true,
            Ok(number) => {
                xids.insert(Xid(number));
            }
            Err(_) => unknown.push(word),
        }
    }
    all
}

/// One reason for which a device is Unhealthy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The driver reported an Xid that counts.
    Xid(Xid),
    /// NVML answers with an error for this GPU.
    Error(String),
    /// It was enumerated before and is no longer.
    Vanished,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xid(xid) => write!(f, "{xid}"),
            Self::Error(error) => write!(f, "NVML answers with an error: {error}"),
            Self::Vanished => f.write_str("NVML no longer enumerates it"),
        }
    }
}

/// The health of one physical GPU: every cause that holds, with the part of the GPU that it concerns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuHealth {
    causes: BTreeMap<Cause, Scope>,
}

/// What part of a GPU a cause concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of it.
    Gpu,
    /// One MIG device.
    Instance(Placement),
}

impl GpuHealth {
    /// Takes an Xid; true if a device's health changed.
    pub fn xid(&mut self, xid: Xid, scope: Scope, policy: &Policy) -> bool {
        if !policy.is_fatal(xid) {
            return false;
        }
        let before = self.causes.insert(Cause::Xid(xid), scope);
        match before {
            Some(before) if before != scope => {
                // Two parts of the GPU reported it: then it is the GPU's.
                self.causes.insert(Cause::Xid(xid), Scope::Gpu);
                before != Scope::Gpu
            }
            Some(_) => false,
            None => true,
        }
    }

    /// Takes what an enumeration says of the GPU: `None` if it answers well, else why not; true if that is news.
    pub fn enumerated(&mut self, trouble: Option<Cause>) -> bool {
        let before = self.causes.clone();
        self.causes.retain(|cause, _| matches!(cause, Cause::Xid(_)));
        if let Some(cause) = trouble {
            self.causes.insert(cause, Scope::Gpu);
        }
        self.causes != before
    }

    /// Why the whole GPU (`None`) or the MIG device at a placement is Unhealthy; empty if it is Healthy.
    pub fn causes(&self, part: Option<Placement>) -> impl Iterator<Item = &Cause> {
        self.causes
            .iter()
            .filter(move |(_, scope)| match (scope, part) {
                (Scope::Gpu, _) | (_, None) => true,
                (Scope::Instance(placement), Some(part)) => *placement == part,
            })
            .map(|(cause, _)| cause)
    }

    /// Whether the whole GPU (`None`) or the MIG device at a placement can be handed out.
    #[must_use]
    pub fn is_healthy(&self, part: Option<Placement>) -> bool {
        self.causes(part).next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_variables_mean_what_nvidia_documents() {
        // disable, enable, Xids that count, Xids that do not, is anything watched
        let table: &[(&str, &str, &[u64], &[u64], bool)] = &[
            ("", "", &[48, 79, 1], &[13, 31, 43, 45, 68, 109], true),
            ("48", "", &[79], &[48, 13], true),
            (" 48 , 79", "", &[62], &[48, 79, 31], true),
            ("all", "", &[], &[48, 79, 13], false),
            ("xids", "", &[], &[48], false),
            ("ALL", "48", &[48], &[79, 13], true),
            ("48", "48", &[48], &[13], true),
            ("", "13", &[13, 48], &[31], true),
            ("", "all", &[13, 31, 48], &[], true),
            ("all", "all", &[13, 48], &[], true),
            ("banana,48", "", &[79], &[48], true),
            ("4294967296", "", &[48], &[4_294_967_296], true),
        ];
        for (disable, enable, fatal, passed, watches) in table {
            let (policy, _) = Policy::from_lists(disable, enable);
            assert!(fatal.iter().all(|xid| policy.is_fatal(Xid(*xid))), "{disable:?} {enable:?}");
            assert!(!passed.iter().any(|xid| policy.is_fatal(Xid(*xid))), "{disable:?} {enable:?}");
            assert_eq!(policy.watches(), *watches, "{disable:?} {enable:?}");
        }
        let (_, unknown) = Policy::from_lists("banana, -1,,48", "x");
        assert_eq!(unknown, ["banana", "-1", "x"]);
    }

    #[test]
    fn an_xid_of_one_mig_device_leaves_its_neighbours_alone() {
        let here = Placement { gpu_instance: 1, compute_instance: 0 };
        let there = Placement { gpu_instance: 2, compute_instance: 0 };
        let mut health = GpuHealth::default();
        assert!(health.xid(Xid(48), Scope::Instance(here), &Policy::default()));
        assert!(!health.is_healthy(Some(here)) && health.is_healthy(Some(there)) && !health.is_healthy(None));
        assert!(health.xid(Xid(48), Scope::Instance(there), &Policy::default()));
        assert!(!health.is_healthy(Some(there)));
    }

    #[test]
    fn an_error_goes_with_the_error_and_an_xid_stays() {
        let mut health = GpuHealth::default();
        assert!(health.enumerated(Some(Cause::Error("code 999".to_owned()))));
        assert!(health.xid(Xid(79), Scope::Gpu, &Policy::default()));
        assert!(!health.xid(Xid(79), Scope::Gpu, &Policy::default()), "the same Xid again is no news");
        assert!(health.enumerated(None));
        assert_eq!(health.causes(None).collect::<Vec<_>>(), [&Cause::Xid(Xid(79))]);
        assert!(!health.enumerated(None));
    }
}
