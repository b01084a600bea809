//! Tests of the tracker.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::in_use::holders::{DeviceAssignment, Holder};
use crate::layout::Layout;
use crate::layout::filter::{DeviceFilter, Term};
use crate::testing::{gpu, node};

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

/// An answer of the n-th kubelet process: one pod, which uses these devices.
fn answer(seconds: u64, kubelet: u64, in_use: &[&str]) -> Option<Arc<Holders>> {
    answer_of(seconds, kubelet, &["p"], in_use)
}

fn answer_of(seconds: u64, kubelet: u64, pods: &[&str], in_use: &[&str]) -> Option<Arc<Holders>> {
    let pods = pods.iter().map(|pod| format!("default/{pod}")).collect();
    let holder = Holder {
        namespace: "default".to_owned(),
        pod: "p".to_owned(),
        container: "main".to_owned(),
    };
    let in_use = in_use.iter().map(|id| DeviceAssignment {
        resource: ResourceName::gpu(),
        id: (*id).to_owned(),
        holder: holder.clone(),
    });
    Some(Arc::new(Holders::new(at(seconds), kubelet, pods, in_use)))
}

fn without_the_second() -> Layout {
    let devices = DeviceFilter { exclude: vec![Term::Index(1, 1)], ..DeviceFilter::default() };
    Layout { devices, ..Layout::default() }
}

/// A node whose second GPU is withdrawn, as the tracker saw at second 100.
fn withdrawn() -> (InUseTracker, Inventory) {
    let mut inventory = node(2);
    inventory.set_layout(without_the_second());
    let mut tracker = InUseTracker::default();
    assert!(tracker.reclaimable(at(100), &inventory).is_empty());
    (tracker, inventory)
}

fn is_reclaimable(tracker: &mut InUseTracker, inventory: &Inventory, now: u64) -> bool {
    let devices = tracker.reclaimable(at(now), inventory);
    assert!(devices.iter().all(|(_, id)| id.to_string() == "GPU-1"), "{devices:?}");
    !devices.is_empty()
}

/// After which of these answers the device is reclaimable.
fn reclaimable_at(answers: &[(u64, u64, &[&str])]) -> Option<u64> {
    let (mut tracker, inventory) = withdrawn();
    answers.iter().find_map(|(asked, kubelet, in_use)| {
        tracker.update(answer(*asked, *kubelet, in_use));
        is_reclaimable(&mut tracker, &inventory, *asked).then_some(*asked)
    })
}

#[test]
fn an_id_is_reclaimable_after_two_answers_without_it_requested_after_its_withdrawal() {
    let free: &[&str] = &[];
    let in_use: &[&str] = &["GPU-1"];
    for (answers, expected) in [
        (vec![(90, 1, free), (100, 1, free), (110, 1, free), (120, 1, free)], Some(120)),
        (vec![(102, 1, free), (104, 1, free)], Some(104)),
        (vec![(102, 1, free), (102, 1, free)], None),
        (
            vec![
                (102, 1, in_use),
                (110, 1, free),
                (120, 1, in_use),
                (130, 1, free),
                (140, 1, free),
            ],
            Some(140),
        ),
        (vec![(102, 1, &["GPU-0"][..]), (110, 1, &["GPU-0"][..])], Some(110)),
        // The answers of a restarted kubelet do not count at first.
        (vec![(110, 1, free), (120, 2, free), (130, 2, free), (419, 2, free)], None),
        (vec![(110, 1, free), (120, 2, free), (420, 2, free), (430, 2, free)], Some(430)),
        (
            vec![(110, 1, in_use), (120, 2, free), (410, 2, free), (425, 3, free), (435, 3, free)],
            None,
        ),
    ] {
        assert_eq!(reclaimable_at(&answers), expected, "{answers:?}");
    }
}

#[test]
fn answers_without_any_pod_do_not_count() {
    let (mut tracker, inventory) = withdrawn();
    for asked in [110, 120, 1000] {
        tracker.update(Some(Arc::new(Holders::new(at(asked), 1, BTreeSet::new(), []))));
        assert!(!is_reclaimable(&mut tracker, &inventory, asked));
    }
    assert!(!tracker.is_unused(at(1000), &gpu(1).uuid, &inventory));
}

#[test]
fn without_an_answer_nothing_is_reclaimable() {
    let (mut tracker, inventory) = withdrawn();
    tracker.update(answer(110, 1, &[]));
    tracker.update(None);
    assert!(!is_reclaimable(&mut tracker, &inventory, 1000));
    assert!(!tracker.is_unused(at(1000), &gpu(0).uuid, &inventory));
}

#[test]
fn a_granted_device_is_in_use_until_every_pod_that_was_new_then_is_gone() {
    let id = || [DeviceId::whole(gpu(1).uuid)];
    let (mut tracker, inventory) = withdrawn();
    tracker.update(answer_of(110, 1, &["old"], &[]));
    tracker.update(answer_of(150, 1, &["old", "recent"], &[]));
    tracker.record_grant(at(200), &ResourceName::gpu(), id());
    for (asked, pods, expected) in [
        (199, &["old", "recent"][..], false),
        (205, &["old", "recent", "new"], false),
        (215, &["old", "recent", "new", "later"], false),
        (225, &["old", "new", "later"], false),
        (235, &["old", "later"], true),
    ] {
        tracker.update(answer_of(asked, 1, pods, &[]));
        assert_eq!(is_reclaimable(&mut tracker, &inventory, asked), expected, "{asked}");
    }
    // A pod that ended before the next answer was requested.
    let (mut tracker, inventory) = withdrawn();
    tracker.update(answer_of(110, 1, &["old"], &[]));
    tracker.record_grant(at(200), &ResourceName::gpu(), id());
    tracker.update(answer_of(210, 1, &["old"], &[]));
    tracker.update(answer_of(220, 1, &["old"], &[]));
    assert!(is_reclaimable(&mut tracker, &inventory, 220));
}

#[test]
fn a_granted_device_is_in_use_until_it_was_listed() {
    let (mut tracker, inventory) = withdrawn();
    let id = || [DeviceId::whole(gpu(1).uuid)];
    tracker.record_grant(at(50), &ResourceName::gpu(), id());
    for asked in [110, 120, 130] {
        tracker.update(answer(asked, 1, &[]));
        assert!(!is_reclaimable(&mut tracker, &inventory, asked), "an init container may use it");
    }
    // An answer requested before the second grant says nothing about it.
    tracker.record_grant(at(140), &ResourceName::gpu(), id());
    tracker.update(answer(139, 1, &["GPU-1"]));
    tracker.update(answer_of(145, 1, &["p", "q"], &[]));
    tracker.update(answer_of(150, 1, &["p", "q"], &[]));
    assert!(!is_reclaimable(&mut tracker, &inventory, 150));
    tracker.update(answer_of(160, 1, &["p", "q"], &["GPU-1"]));
    tracker.update(answer_of(170, 1, &["p", "q"], &[]));
    assert!(!is_reclaimable(&mut tracker, &inventory, 170));
    tracker.update(answer_of(180, 1, &["p", "q"], &[]));
    assert!(is_reclaimable(&mut tracker, &inventory, 180));
}

#[test]
fn a_device_that_is_offered_and_withdrawn_again_needs_two_answers_again() {
    let (mut tracker, mut inventory) = withdrawn();
    tracker.update(answer(110, 1, &[]));
    inventory.set_layout(Layout::default());
    assert!(tracker.reclaimable(at(115), &inventory).is_empty() && !tracker.needs_answer());
    inventory.set_layout(without_the_second());
    assert!(!is_reclaimable(&mut tracker, &inventory, 118));
    tracker.update(answer(120, 1, &[]));
    assert!(!is_reclaimable(&mut tracker, &inventory, 120));
    tracker.update(answer(130, 1, &[]));
    assert!(is_reclaimable(&mut tracker, &inventory, 130));
}

#[test]
fn an_answer_is_needed_soon_only_while_it_may_make_a_device_reclaimable() {
    let (mut tracker, inventory) = withdrawn();
    assert!(tracker.needs_answer(), "for the first answer");
    tracker.update(answer(110, 1, &["GPU-1"]));
    assert!(!tracker.needs_answer(), "a pod uses it, for how long nobody lists");
    tracker.update(answer(120, 1, &[]));
    assert!(tracker.needs_answer(), "for the second answer");
    tracker.record_grant(at(121), &ResourceName::gpu(), [DeviceId::whole(gpu(1).uuid)]);
    assert!(!tracker.needs_answer());
    assert!(!is_reclaimable(&mut tracker, &inventory, 125));
}

/// What can happen, some seconds after the previous event.
#[derive(Debug, Clone)]
enum Event {
    /// The kubelet answers: whether it has restarted, whether it lists the pod, and that with the
    /// device.
    Answer { restarted: bool, lists: bool, uses: bool },
    /// The device is granted.
    Grant,
    /// The kubelet stops answering.
    Silence,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (prop::bool::weighted(0.1), prop::bool::weighted(0.9), any::<bool>())
            .prop_map(|(restarted, lists, uses)| Event::Answer { restarted, lists, uses }),
        1 => Just(Event::Grant),
        1 => Just(Event::Silence),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_an_id_is_reclaimable_only_after_two_credible_answers(
        events in prop::collection::vec((1..200_u64, event()), 1..60),
    ) {
        let (mut tracker, inventory) = withdrawn();
        let (mut now, mut kubelet, mut since) = (100, 1, None);
        // When the answers without the device were requested, since the last sign of its use.
        let mut without: Vec<u64> = Vec::new();
        for (pause, event) in events {
            now += pause;
            match event {
                Event::Answer { restarted, lists, uses } => {
                    if restarted || since.is_none() {
                        kubelet += u64::from(since.is_some());
                        since = Some(now);
                        without.clear();
                    }
                    let pods: &[&str] = if lists { &["p"] } else { &[] };
                    let in_use: &[&str] = if lists && uses { &["GPU-1"] } else { &[] };
                    tracker.update(answer_of(now, kubelet, pods, in_use));
                    match (lists, uses) {
                        (true, true) => without.clear(),
                        (true, false) => without.push(now),
                        (false, _) => {}
                    }
                }
                Event::Grant => {
                    tracker.record_grant(
                        at(now),
                        &ResourceName::gpu(),
                        [DeviceId::whole(gpu(1).uuid)],
                    );
                    without.clear();
                }
                Event::Silence => tracker.update(None),
            }
            if is_reclaimable(&mut tracker, &inventory, now) {
                prop_assert!(without.len() >= 2, "{without:?} at {now}");
                let settled =
                    kubelet == 1 || without[without.len() - 2] >= since.unwrap_or(0) + 300;
                prop_assert!(settled, "{without:?} since {since:?} at {now}");
            }
        }
    }
}

#[test]
fn a_gpu_is_unused_when_no_container_has_any_of_its_devices() {
    let inventory = node(2);
    let mut tracker = InUseTracker::default();
    let unused = |tracker: &InUseTracker, now| {
        [0, 1].map(|index| tracker.is_unused(at(now), &gpu(index).uuid, &inventory))
    };
    assert_eq!(unused(&tracker, 10), [false; 2], "no answer yet");
    tracker.update(answer(10, 1, &["GPU-0"]));
    assert_eq!(unused(&tracker, 10), [false, true]);
    tracker.record_grant(at(11), &ResourceName::gpu(), [DeviceId::whole(gpu(1).uuid)]);
    tracker.update(answer(20, 1, &[]));
    assert_eq!(unused(&tracker, 20), [true, false], "it was granted a moment ago");
    assert_eq!(unused(&tracker, 71), [true, true]);
    tracker.update(answer(80, 2, &[]));
    assert_eq!(unused(&tracker, 80), [false; 2], "the kubelet has restarted");
    tracker.update(answer(380, 2, &[]));
    assert_eq!(unused(&tracker, 380), [true; 2]);
}

/// What is used is known from the last answer and from grants; a kubelet that does not know its
/// pods yet takes nothing back.
#[test]
fn a_device_is_in_use_from_its_grant_until_an_answer_of_a_settled_kubelet_is_without_it() {
    let mut tracker = InUseTracker::default();
    let used = |tracker: &InUseTracker| -> Vec<String> {
        tracker.in_use().devices.keys().map(|(_, id)| id.to_string()).collect()
    };
    assert_eq!(tracker.in_use(), InUse::default());
    tracker.record_grant(at(1), &ResourceName::gpu(), ["GPU-0".parse().unwrap()]);
    assert_eq!(used(&tracker), ["GPU-0"]);
    tracker.update(answer(2, 1, &["GPU-0"]));
    assert!(tracker.in_use().known);
    tracker.update(None);
    assert_eq!(used(&tracker), ["GPU-0"], "the kubelet does not answer");
    tracker.update(answer_of(3, 2, &[], &[]));
    tracker.update(answer_of(4, 2, &["p"], &[]));
    assert_eq!(used(&tracker), ["GPU-0"], "the kubelet has restarted");
    tracker.update(answer_of(400, 2, &[], &[]));
    assert!(used(&tracker).is_empty(), "it has listed pods, and has none any more");
}
