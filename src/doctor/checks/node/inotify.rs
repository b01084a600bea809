//! Whether a watch can be created, and how close the limits are.

use crate::doctor::facts::{Facts, InotifyFacts};
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Node;
const ID: &str = "node.inotify";
const CHECKED: &str = "inotify";
const FIX: &str = "sysctl -w fs.inotify.max_user_instances=8192 \
    fs.inotify.max_user_watches=524288 on the node, and the same lines in a file of /etc/sysctl.d";
/// With fewer instances left than this the limit is close.
const FEW_LEFT: u64 = 8;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    vec![of_limits(&facts.node.inotify)]
}

fn of_limits(inotify: &InotifyFacts) -> Finding {
    let limits = limits(inotify);
    if let Some(error) = &inotify.refused {
        return Finding::warning(
            GROUP,
            ID,
            CHECKED,
            format!("no watch can be had: {error}; {limits}"),
        )
        .why(
            "the plugin then polls once a second, and notices a kubelet's restart that much later; \
             other programs fail",
        )
        .fix(FIX);
    }
    if inotify.instances.is_some_and(|most| most.saturating_sub(inotify.used) < FEW_LEFT) {
        return Finding::warning(GROUP, ID, CHECKED, format!("the limit is close: {limits}"))
            .why("the next program that wants a watch gets none")
            .fix(FIX);
    }
    Finding::ok(GROUP, ID, CHECKED, limits)
}

fn limits(inotify: &InotifyFacts) -> String {
    let limit =
        |limit: Option<u64>| limit.map_or_else(|| "unknown".to_owned(), |limit| limit.to_string());
    format!(
        "max_user_instances {} ({} in use, as far as can be seen), max_user_watches {}",
        limit(inotify.instances),
        inotify.used,
        limit(inotify.watches)
    )
}
