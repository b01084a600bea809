//! `DP_DISABLE_HEALTHCHECKS` and `DP_ENABLE_HEALTHCHECKS`, read as NVIDIA documents them.

use std::collections::BTreeSet;

use super::policy::Finding;
use super::xid::Xid;

/// What one of the two variables lists: comma-separated, blanks and case do not matter, `all` and
/// `xids` are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct XidList {
    /// Whether it lists every Xid.
    pub all: bool,
    /// The numbers it lists.
    pub xids: BTreeSet<Xid>,
}

/// The two variables. They stand above the configuration file.
///
/// | `DP_DISABLE_HEALTHCHECKS` | `DP_ENABLE_HEALTHCHECKS` | what is watched                                    |
/// |---------------------------|--------------------------|----------------------------------------------------|
/// | empty                     | empty                    | everything, by the policy                          |
/// | `48,64`                   | empty                    | everything, but those Xids are ignored             |
/// | `48,64`                   | `48`                     | everything, 64 is ignored, 48 makes Unhealthy      |
/// | empty                     | `109`                    | everything, 109 makes Unhealthy                    |
/// | empty                     | `all`                    | everything, every Xid makes Unhealthy              |
/// | `all`                     | empty                    | nothing                                            |
/// | `all`                     | `48`                     | Xid 48 alone (NVIDIA's plugin then watches nothing) |
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `DP_DISABLE_HEALTHCHECKS`.
    pub disable: XidList,
    /// `DP_ENABLE_HEALTHCHECKS`; wins over the other.
    pub enable: XidList,
}

impl Overrides {
    /// Reads the values of the two variables, an unset one as empty. What cannot be read is left
    /// out and reported.
    #[must_use]
    pub fn parse(disable: &str, enable: &str) -> (Self, Vec<Finding>) {
        let mut findings = Vec::new();
        let mut parse = |variable, text| XidList::parse(variable, text, &mut findings);
        let overrides = Self {
            disable: parse("DP_DISABLE_HEALTHCHECKS", disable),
            enable: parse("DP_ENABLE_HEALTHCHECKS", enable),
        };
        (overrides, findings)
    }
}

impl XidList {
    fn parse(variable: &'static str, text: &str, findings: &mut Vec<Finding>) -> Self {
        let mut list = Self::default();
        for token in text.split(',').map(str::trim).filter(|token| !token.is_empty()) {
            if token.eq_ignore_ascii_case("all") || token.eq_ignore_ascii_case("xids") {
                list.all = true;
            } else if let Some(xid) = number(token) {
                list.xids.insert(xid);
            } else {
                findings.push(Finding::Malformed { variable, token: token.to_owned() });
            }
        }
        list
    }

    /// Whether it lists this Xid by its number.
    pub(super) fn names(&self, xid: Xid) -> bool {
        self.xids.contains(&xid)
    }
}

/// Decimal digits and nothing else: the standard parser would take a sign.
fn number(token: &str) -> Option<Xid> {
    token.bytes().all(|b| b.is_ascii_digit()).then(|| token.parse().ok().map(Xid)).flatten()
}
