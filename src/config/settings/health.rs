//! What makes a GPU Unhealthy and Healthy again, and how often its health is read.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use device::health::{CriticalXids, EventType, Xid, XidAction};

use super::setting::{Effect, HEALTH_POLICY, Setting, Shape, settings};
use crate::config::duration;
use crate::config::print;
use crate::config::tree::{Node, Scalar, Value};
use crate::config::value::{self, Parsed, RawValue};

const HEALTH: Setting = Setting { heading: "Health", effect: Effect::Health, ..Setting::BASE };
const PROCESS: Setting = Setting { effect: Effect::NextStart, ..HEALTH };
const POLICY: Setting = Setting { heading: HEALTH_POLICY, ..HEALTH };
const SWITCH: Setting = Setting { shape: Shape::Switch, default: "false", ..POLICY };

settings! {
    HEALTH_POLL_INTERVAL: health.poll.poll = at_least_100_ms, print::duration; HEALTH {
        flag: Some("health-poll-interval"), env: &["HEALTH_POLL_INTERVAL"],
        key: Some("health.pollInterval"), value: "DURATION", default: "10s",
        help: "How often health is polled and the node is scanned again.",
    }
    STATE_DIR: process.state_dir = value::path, print::optional_path; PROCESS {
        flag: Some("state-dir"), env: &["STATE_DIR"], value: "DIR",
        default: "/var/lib/gpu-device-plugin",
        help: "Where verdicts that cannot be found out again are kept over a restart; empty: \
            nowhere.",
    }
    QUARANTINE_DIR: process.quarantine_dir = value::path, print::optional_path; PROCESS {
        flag: Some("quarantine-dir"), env: &["QUARANTINE_DIR"], value: "DIR",
        default: "/var/lib/gpu-device-plugin/quarantine",
        help: "A file here named after a UUID, PCI bus id or index makes that GPU Unhealthy, with \
            its text as the reason; empty: no such directory.",
    }
    DISABLE_HEALTHCHECKS: health.disable_healthchecks = value::text, print::quoted; HEALTH {
        env: &["DP_DISABLE_HEALTHCHECKS"], value: "XIDS",
        help: "Xids that change no health: a comma list, or all, which turns health checking off \
            but for what DP_ENABLE_HEALTHCHECKS lists.",
    }
    ENABLE_HEALTHCHECKS: health.enable_healthchecks = value::text, print::quoted; HEALTH {
        env: &["DP_ENABLE_HEALTHCHECKS"], value: "XIDS",
        help: "Xids that make a GPU Unhealthy even if they are ignored otherwise: a comma list, \
            or all.",
    }
    DISABLED: health.rules.disabled = value::boolean, print::display; SWITCH {
        key: Some("health.disabled"),
        help: "Whether health is not checked at all.",
    }
    EVENT_TYPES: health.rules.event_types = event_types, print::choices; POLICY {
        key: Some("health.eventTypes"), shape: Shape::List,
        help: "The NVML events to listen to; empty: all that concern health.",
    }
    IGNORED_XIDS: health.rules.ignored = ignored_xids, print_ignored; POLICY {
        key: Some("health.ignoredXIDs"), shape: Shape::List,
        help: "Xids that change no health: a list, or all.",
    }
    CRITICAL_XIDS: health.rules.critical = critical_xids, print_critical; POLICY {
        key: Some("health.criticalXIDs"), shape: Shape::List,
        help: "Xids that make a GPU Unhealthy: a list, or all; empty: by the class of each.",
    }
    XIDS: health.rules.actions = xid_actions, print_actions; POLICY {
        key: Some("health.xids"),
        help: "What single Xids do, whatever the two lists say: ignore, event, recovery-action or \
            unhealthy.",
    }
    RECOVERY_POLLS: health.rules.thresholds.recovery_polls = count, print::display; POLICY {
        key: Some("health.recoveryPolls"), default: "2",
        help: "Good polls in a row before an Unhealthy GPU is Healthy again.",
    }
    RELAPSES: health.relapses.count = count, print::display; POLICY {
        key: Some("health.relapses"), default: "3",
        help: "Relapses within relapseWindow after which a GPU stays Unhealthy.",
    }
    RELAPSE_WINDOW: health.relapses.window = value::duration, print::duration; POLICY {
        key: Some("health.relapseWindow"), default: "1h",
        help: "The time in which relapses are counted.",
    }
    MISSED_CALLS: health.rules.thresholds.missed_calls = count, print::display; POLICY {
        key: Some("health.missedCalls"), default: "3",
        help: "NVML calls in a row that fail or do not return before the GPU is Unhealthy.",
    }
    CALL_DEADLINE: health.poll.deadline = at_least_100_ms, print::duration; POLICY {
        key: Some("health.callDeadline"), default: "5s",
        help: "How long an NVML call may take.",
    }
    SUSPICION: health.rules.thresholds.suspicion = value::duration, print::duration; POLICY {
        key: Some("health.suspicion"), default: "5s",
        help: "How long after an event the recovery action is read again and no Xid clears.",
    }
    QUIET_PERIOD: health.rules.thresholds.quiet_period = quiet_period, print_quiet_period; POLICY {
        key: Some("health.quietPeriod"), default: "0s",
        help: "On drivers without a recovery action, the quiet time after which an Xid clears; 0s: \
            never by time alone.",
    }
    ROW_REMAP_PENDING: health.rules.thresholds.row_remap_pending =
        value::choice, print::choice; POLICY {
        key: Some("health.rowRemapPending"), default: "event",
        help: "What a row remapping that waits for a reset does: event or unhealthy.",
    }
    DRAIN_P2P: health.rules.thresholds.drain_p2p = value::choice, print::choice; POLICY {
        key: Some("health.drainP2P"), default: "unhealthy",
        help: "What the driver's request to end peer-to-peer work does: event or unhealthy.",
    }
    FABRIC: health.rules.thresholds.fabric = value::choice, print::choice; POLICY {
        key: Some("health.fabric"), default: "unhealthy",
        help: "What a fault of the NVLink fabric does: event or unhealthy.",
    }
    RELEASE_FOR_RESET: health.release_for_reset = value::boolean, print::display; SWITCH {
        key: Some("health.releaseForReset"),
        help: "Whether NVML is released by itself for a GPU that needs a reset and that no pod \
            holds.",
    }
    RELEASE_FOR: health.poll.release_for = value::duration, print::duration; POLICY {
        key: Some("health.releaseFor"), default: "30s",
        help: "For how long NVML is released.",
    }
}

/// Numbers of Xids that `ignoredXIDs: all` covers: more than NVIDIA's catalogue has.
const EVERY_XID: std::ops::Range<u32> = 0..1024;

/// Whether this is what `ignoredXIDs: all` means.
pub(in crate::config) fn is_every_xid(ignored: &BTreeSet<Xid>) -> bool {
    ignored.iter().copied().eq(EVERY_XID.map(Xid))
}

/// A call or poll of a healthy driver may take some milliseconds.
fn at_least_100_ms(raw: RawValue<'_>) -> Parsed<Duration> {
    match value::duration(raw)? {
        short if short < Duration::from_millis(100) => value::invalid(
            duration::format(short),
            "is shorter than 100ms; a number without a unit counts nanoseconds",
        ),
        duration => Ok(duration),
    }
}

fn count(raw: RawValue<'_>) -> Parsed<NonZeroU32> {
    let number = value::number(raw, 1..=1_000_000, "is not a whole number of at least 1")?;
    Ok(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
}

fn event_types(raw: RawValue<'_>) -> Parsed<BTreeSet<EventType>> {
    let words = value::list(raw)?.into_iter().map(|item| item.parse(value::word::<EventType>));
    let types: BTreeSet<_> = value::collect(words)?.into_iter().collect();
    Ok(if types.is_empty() { EventType::ALL.into() } else { types })
}

fn quiet_period(raw: RawValue<'_>) -> Parsed<Option<Duration>> {
    Ok(Some(value::duration(raw)?).filter(|quiet| !quiet.is_zero()))
}

fn print_quiet_period(quiet_period: &Option<Duration>) -> String {
    print::duration(&quiet_period.unwrap_or_default())
}

/// A list of Xids; `None`: `all`. A text is split at commas.
fn xids(raw: RawValue<'_>) -> Parsed<Option<BTreeSet<Xid>>> {
    let items = match raw {
        RawValue::Node(Node { value: Value::Scalar(Scalar { text, .. }), .. }) => match &**text {
            "all" => return Ok(None),
            text => value::split(text).collect(),
        },
        raw => value::list(raw)?,
    };
    let xids = items.into_iter().filter(|item| !item.text.is_empty()).map(|item| item.parse(xid));
    Ok(Some(value::collect(xids)?.into_iter().collect()))
}

fn xid(text: &str) -> Parsed<Xid> {
    let problem = "is not an Xid (a whole number)";
    value::text_number(text).map(Xid).map_or_else(|| value::invalid_text(text, problem), Ok)
}

fn print_xids<'a>(xids: impl IntoIterator<Item = &'a Xid>) -> String {
    print::flow(xids.into_iter().map(|xid| xid.0.to_string()))
}

/// An empty list is the same as none.
fn ignored_xids(raw: RawValue<'_>) -> Parsed<Option<BTreeSet<Xid>>> {
    let ignored = xids(raw)?.unwrap_or_else(|| EVERY_XID.map(Xid).collect());
    Ok(Some(ignored).filter(|ignored| !ignored.is_empty()))
}

fn print_ignored(ignored: &Option<BTreeSet<Xid>>) -> String {
    match ignored {
        Some(ignored) if is_every_xid(ignored) => "all".to_owned(),
        ignored => print_xids(ignored.iter().flatten()),
    }
}

fn critical_xids(raw: RawValue<'_>) -> Parsed<CriticalXids> {
    Ok(match xids(raw)? {
        None => CriticalXids::All,
        Some(critical) if critical.is_empty() => CriticalXids::ByClass,
        Some(critical) => CriticalXids::Only(critical),
    })
}

fn print_critical(critical: &CriticalXids) -> String {
    match critical {
        CriticalXids::All => "all".to_owned(),
        CriticalXids::ByClass => print_xids([]),
        CriticalXids::Only(critical) => print_xids(critical),
    }
}

fn xid_actions(raw: RawValue<'_>) -> Parsed<BTreeMap<Xid, XidAction>> {
    let entries = value::entries(raw)?.iter().map(|(key, node)| {
        let xid = value::at("", Some(key.line), xid(&key.name))?;
        let action = value::choice(RawValue::Node(node));
        Ok((xid, value::at(&format!(".{}", key.name), Some(node.line), action)?))
    });
    Ok(value::collect(entries)?.into_iter().collect())
}

fn print_actions(actions: &BTreeMap<Xid, XidAction>) -> String {
    let entries: Vec<_> =
        actions.iter().map(|(xid, action)| format!("{}: {action}", xid.0)).collect();
    format!("{{{}}}", entries.join(", "))
}
