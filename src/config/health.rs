//! The file's key `health`, with the keys of NVIDIA's draft and those that go beyond it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use device::health::{EventType, Thresholds, XidAction};

use super::fields::{Field, Fields};
use super::model::{Health, Xids};
use super::raw::{self, Raw, Read, text_number};
use super::report::{Origins, Report};
use super::settings;
use super::sharing::told;
use super::tree::{Node, Scalar, Value};

/// What holds where nobody says otherwise.
pub(super) fn defaults() -> Health {
    let Thresholds { suspicion, quiet_period, row_remap_pending, drain_p2p, fabric, .. } =
        Thresholds::default();
    Health {
        enabled: true,
        event_types: EventType::ALL.into_iter().collect(),
        ignored_xids: Xids::These(BTreeSet::new()),
        critical_xids: Xids::These(BTreeSet::new()),
        xids: BTreeMap::new(),
        disable_healthchecks: String::new(),
        enable_healthchecks: String::new(),
        poll_interval: Duration::from_secs(10),
        recovery_polls: 2,
        relapses: 3,
        relapse_window: Duration::from_secs(3600),
        missed_calls: 3,
        row_remap_pending,
        drain_p2p,
        fabric,
        suspicion,
        quiet_period,
        call_deadline: Duration::from_secs(5),
        release_for_reset: false,
        release_for: Duration::from_secs(30),
    }
}

/// Reads `health`. `pollInterval` is a setting of its own: it comes back to be weighed against flag
/// and environment.
pub(super) fn health<'a>(
    field: &Field<'a>,
    health: &mut Health,
    report: &mut Report,
    origins: &mut Origins,
) -> Option<Field<'a>> {
    let mut fields = Fields::open(&field.path, field.node, report)?;
    let mut reader = Reader { fields: &mut fields, report, origins };
    if let Some(disabled) = reader.take("disabled", |node| raw::boolean(Raw::Node(node))) {
        health.enabled = !disabled;
    }
    reader.set("eventTypes", &mut health.event_types, event_types);
    reader.set("ignoredXIDs", &mut health.ignored_xids, xids);
    reader.set("criticalXIDs", &mut health.critical_xids, xids);
    reader.set("recoveryPolls", &mut health.recovery_polls, count);
    reader.set("relapses", &mut health.relapses, count);
    reader.set("relapseWindow", &mut health.relapse_window, duration);
    reader.set("missedCalls", &mut health.missed_calls, count);
    reader
        .set("rowRemapPending", &mut health.row_remap_pending, |node| raw::choice(Raw::Node(node)));
    reader.set("drainP2P", &mut health.drain_p2p, |node| raw::choice(Raw::Node(node)));
    reader.set("fabric", &mut health.fabric, |node| raw::choice(Raw::Node(node)));
    reader.set("suspicion", &mut health.suspicion, duration);
    if let Some(quiet) = reader.take("quietPeriod", duration) {
        health.quiet_period = Some(quiet).filter(|quiet| !quiet.is_zero());
    }
    reader.set("callDeadline", &mut health.call_deadline, deadline);
    reader.set("releaseFor", &mut health.release_for, duration);
    reader.set("releaseForReset", &mut health.release_for_reset, |node| {
        raw::boolean(Raw::Node(node))
    });
    if let Some(actions) = fields.take("xids", report) {
        health.xids = xid_actions(&actions, report, origins);
    }
    let poll_interval = fields.take("pollInterval", report);
    debug_assert_eq!(settings::HEALTH_POLL_INTERVAL.key, Some("health.pollInterval"));
    fields.finish(report);
    both(health, field, report);
    poll_interval
}

struct Reader<'r, 'a> {
    fields: &'r mut Fields<'a>,
    report: &'r mut Report,
    origins: &'r mut Origins,
}

impl Reader<'_, '_> {
    fn take<T>(&mut self, name: &'static str, read: impl FnOnce(&Node) -> Read<T>) -> Option<T> {
        let field = self.fields.take(name, self.report)?;
        told(read(field.node), &field, self.report, self.origins)
    }

    fn set<T>(&mut self, name: &'static str, to: &mut T, read: impl FnOnce(&Node) -> Read<T>) {
        if let Some(value) = self.take(name, read) {
            *to = value;
        }
    }
}

fn duration(node: &Node) -> Read<Duration> {
    raw::duration(Raw::Node(node))
}

/// A healthy driver may well take some milliseconds.
fn deadline(node: &Node) -> Read<Duration> {
    match duration(node)? {
        deadline if deadline < Duration::from_millis(100) => raw::wrong(
            node.shown(),
            "is shorter than 100ms; a number without a unit counts nanoseconds",
        ),
        deadline => Ok(deadline),
    }
}

fn count(node: &Node) -> Read<u32> {
    raw::number(node, 1..=1_000_000, "is not a whole number of at least 1")
}

fn event_types(node: &Node) -> Read<BTreeSet<EventType>> {
    let words =
        raw::list(Raw::Node(node))?.into_iter().map(|item| item.read(raw::word::<EventType>));
    Ok(raw::all(words)?.into_iter().collect())
}

/// `all`, or a list of Xids. A text is split at commas.
fn xids(node: &Node) -> Read<Xids> {
    let items = match &node.value {
        Value::Scalar(Scalar { text, .. }) if text == "all" => return Ok(Xids::All),
        Value::Scalar(Scalar { text, .. }) => raw::split(text).collect(),
        _ => raw::list(Raw::Node(node))?,
    };
    let numbers = items.into_iter().filter(|item| !item.text.is_empty()).map(|item| item.read(xid));
    Ok(Xids::These(raw::all(numbers)?.into_iter().collect()))
}

fn xid(text: &str) -> Read<u32> {
    match text_number(text) {
        Some(xid) => Ok(xid),
        None => raw::wrong_text(text, "is not an Xid (a whole number)"),
    }
}

fn xid_actions(
    field: &Field<'_>,
    report: &mut Report,
    origins: &mut Origins,
) -> BTreeMap<u32, XidAction> {
    let mut actions = BTreeMap::new();
    let Some(fields) = Fields::open(&field.path, field.node, report) else { return actions };
    for (key, action) in fields.rest() {
        match xid(&key.name) {
            Ok(xid) => {
                if let Some(action) =
                    told(raw::choice(Raw::Node(action.node)), &action, report, origins)
                {
                    actions.insert(xid, action);
                }
            }
            Err(wrongs) => {
                for wrong in wrongs {
                    report.mistake(
                        action.origin(),
                        field.path.as_str(),
                        wrong.value,
                        wrong.problem,
                    );
                }
            }
        }
    }
    actions
}

/// An Xid that is both ignored and critical says two things at once.
fn both(health: &Health, field: &Field<'_>, report: &mut Report) {
    let (Xids::These(ignored), Xids::These(critical)) =
        (&health.ignored_xids, &health.critical_xids)
    else {
        return;
    };
    for xid in ignored.intersection(critical).filter(|xid| !health.xids.contains_key(xid)) {
        let problem = "is in ignoredXIDs and in criticalXIDs; leave it in one of them";
        report.mistake(
            field.origin(),
            format!("{}.criticalXIDs", field.path),
            xid.to_string(),
            problem,
        );
    }
}
