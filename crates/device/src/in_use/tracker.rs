//! What pods may hold, and so when an id may leave its list and a GPU be reset.
//!
//! ```text
//!            withdrawn                    not held in an answer           nor in a later one
//!   offered ──────────▶ may be held ──────────────────────────▶ unheld once ─────────────▶ may go
//!                          ▲   ▲                                    │
//!                          │   └──── held, or another kubelet ──────┤
//!                          └─────────── handed out once more ───────┘
//! ```
//!
//! An id leaves its list only when nothing speaks against it, for a kubelet up to 1.36 at least can
//! panic when an id that a pod holds is missing from the list: at the end of an allocation, and
//! when it admits its pods again after a restart (pkg/kubelet/cm/devicemanager/manager.go:923,
//! topology_hints.go:191). So what the kubelet does not say is taken to be held:
//!
//! - Two answers in a row have to be without the id, both asked well after the device was
//!   withdrawn: an admission may have chosen it just before.
//! - A device that was handed out and not seen held since may be an init container's, which
//!   podresources does not show. It stays until every pod is gone that can have got it: each that
//!   was new when it was handed out.
//! - A kubelet that has restarted knows its pods from its checkpoint, but lists them only when it
//!   has heard of them from the API server. It is believed after five minutes, and never while it
//!   knows no pod at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::health::Moment;
use crate::in_use::holders::Holders;
use crate::inventory::Inventory;
use crate::names::{DeviceId, ResourceName, Uuid};

/// How long an admission that has chosen a device may take to have it entered.
const ADMISSION: Duration = Duration::from_secs(1);
/// How long after a pod is listed it may still be given devices: the allocation of another plugin
/// can hang before ours.
const ADMITTED: Duration = Duration::from_secs(60);
/// How long what was handed out counts as held when the kubelet does not show it, where holding is
/// no danger.
const ON_ITS_WAY: Duration = Duration::from_secs(60);
/// How long a kubelet that has restarted gets to hear of its pods.
const RESTARTED: Duration = Duration::from_secs(300);

/// A device of a resource.
pub type DeviceKey = (ResourceName, DeviceId);

/// What is known of what pods hold.
#[derive(Debug, Clone, Default)]
pub struct InUseTracker {
    answer: Option<Arc<Holders>>,
    /// The kubelet that has answered, and since when.
    kubelet: Option<(u64, Moment)>,
    /// Whether it is one that was started while this one ran.
    restarted: bool,
    /// The pods of the last answer, and when each was first listed; those of the first answer
    /// always were.
    pods: BTreeMap<String, Moment>,
    /// What was handed out and may be held although podresources does not show it.
    given: BTreeMap<DeviceKey, Grant>,
    /// The devices that are offered no more.
    withdrawn: BTreeMap<DeviceKey, Withdrawn>,
}

/// A device that was handed out.
#[derive(Debug, Clone)]
struct Grant {
    at: Moment,
    /// The pods that may have got it; `None` before the first answer.
    suspects: Option<BTreeSet<String>>,
}

/// A device that is offered no more.
#[derive(Debug, Clone, Copy)]
struct Withdrawn {
    since: Moment,
    /// When the first of the answers in a row was asked that do not show it.
    unheld: Option<Moment>,
}

impl InUseTracker {
    /// A container was given these devices.
    pub fn given(
        &mut self,
        now: Moment,
        resource: &ResourceName,
        ids: impl IntoIterator<Item = DeviceId>,
    ) {
        for id in ids {
            let place = (resource.clone(), id);
            if let Some(withdrawn) = self.withdrawn.get_mut(&place) {
                withdrawn.unheld = None;
            }
            self.given.insert(place, Grant { at: now, suspects: None });
        }
    }

    /// The kubelet has answered, or is known to answer no more.
    pub fn answered(&mut self, answer: Option<Arc<Holders>>) {
        self.answer = answer;
        let Some(holders) = self.answer.clone() else { return };
        if self.kubelet.is_none_or(|(kubelet, _)| kubelet != holders.kubelet()) {
            self.restarted = self.kubelet.is_some();
            self.kubelet = Some((holders.kubelet(), holders.asked()));
            self.withdrawn.values_mut().for_each(|withdrawn| withdrawn.unheld = None);
        }
        self.note_pods(&holders);
        self.suspect(&holders);
        if !self.is_credible(&holders) {
            // Nor is it the second of two answers.
            self.withdrawn.values_mut().for_each(|withdrawn| withdrawn.unheld = None);
            return;
        }
        let is_held = |(resource, id): &DeviceKey| !holders.of(resource, id).is_empty();
        for (place, withdrawn) in &mut self.withdrawn {
            let is_asked_late = withdrawn.since.after(ADMISSION) <= holders.asked();
            match is_held(place) {
                true => withdrawn.unheld = None,
                false if is_asked_late => {
                    withdrawn.unheld = withdrawn.unheld.or(Some(holders.asked()))
                }
                false => {}
            }
        }
    }

    fn note_pods(&mut self, holders: &Holders) {
        let first = if self.pods.is_empty() { Moment::default() } else { holders.asked() };
        self.pods.retain(|pod, _| holders.pods().contains(pod));
        for pod in holders
            .pods()
            .iter()
            .filter(|pod| !self.pods.contains_key(*pod))
            .cloned()
            .collect::<Vec<_>>()
        {
            self.pods.insert(pod, first);
        }
    }

    /// What was handed out is held by a pod that is shown to hold it, or that is there and may have
    /// got it, or by none.
    fn suspect(&mut self, holders: &Holders) {
        let is_credible = self.is_credible(holders);
        let (pods, listed) = (&self.pods, holders.pods());
        self.given.retain(|(resource, id), given| {
            if given.at >= holders.asked() {
                return true;
            }
            if !holders.of(resource, id).is_empty() || !is_credible {
                return holders.of(resource, id).is_empty();
            }
            let at = given.at;
            let was_new = |first: &Moment| first.after(ADMITTED) > at;
            let all = || {
                pods.iter()
                    .filter(|(_, first)| was_new(first))
                    .map(|(pod, _)| pod.clone())
                    .collect()
            };
            let suspects = given.suspects.get_or_insert_with(all);
            suspects.retain(|pod| listed.contains(pod));
            !suspects.is_empty()
        });
    }

    /// Looks which devices are withdrawn now, and gives those that may leave their lists.
    pub fn review(&mut self, now: Moment, inventory: &Inventory) -> Vec<DeviceKey> {
        let withdrawn = inventory.resources().flat_map(|resource| {
            let devices = inventory.devices(resource).into_iter().flat_map(BTreeMap::values);
            let withdrawn = devices.filter(|device| device.withdrawn);
            withdrawn.map(move |device| (resource.clone(), device.id.clone()))
        });
        let mut before = std::mem::take(&mut self.withdrawn);
        let new = Withdrawn { since: now, unheld: None };
        self.withdrawn =
            withdrawn.map(|place| before.remove_entry(&place).unwrap_or((place, new))).collect();
        let Some(asked) = self.answer.as_ref().map(|answer| answer.asked()) else {
            return Vec::new();
        };
        let may_go = |(place, withdrawn): (&DeviceKey, &Withdrawn)| {
            let is_unheld_twice = withdrawn.unheld.is_some_and(|first| first < asked);
            (is_unheld_twice && !self.given.contains_key(place)).then(|| place.clone())
        };
        self.withdrawn.iter().filter_map(may_go).collect()
    }

    /// Whether any device is withdrawn: then each answer counts, and so does the time.
    #[must_use]
    pub fn is_watching(&self) -> bool {
        !self.withdrawn.is_empty()
    }

    /// Whether the next answer may let a device go: then it is worth asking soon.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        let asked = self.answer.as_ref().map(|answer| answer.asked());
        let waits = |(place, withdrawn): (&DeviceKey, &Withdrawn)| {
            let is_first = withdrawn.unheld.is_none()
                && asked.is_none_or(|asked| asked < withdrawn.since.after(ADMISSION));
            (is_first || withdrawn.unheld.is_some()) && !self.given.contains_key(place)
        };
        self.withdrawn.iter().any(waits)
    }

    /// Whether the kubelet says that nobody holds any device of a GPU. What was handed out a moment
    /// ago counts as held.
    #[must_use]
    pub fn is_free(&self, now: Moment, gpu: &Uuid, inventory: &Inventory) -> bool {
        let Some(holders) = self.answer.as_ref().filter(|holders| self.is_credible(holders)) else {
            return false;
        };
        let on_its_way = |given: &Grant| now.since(given.at) < ON_ITS_WAY;
        inventory.resources().all(|resource| {
            let devices = inventory.devices(resource).into_iter().flat_map(BTreeMap::values);
            devices.filter(|device| device.gpu == *gpu).all(|device| {
                let place = (resource.clone(), device.id.clone());
                holders.of(resource, &device.id).is_empty()
                    && !self.given.get(&place).is_some_and(on_its_way)
            })
        })
    }

    /// Whether a device that is not in the answer is held by no pod.
    fn is_credible(&self, holders: &Holders) -> bool {
        let since = self.kubelet.map_or(holders.asked(), |(_, since)| since);
        !holders.pods().is_empty() && (!self.restarted || holders.asked().since(since) >= RESTARTED)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::in_use::holders::{DeviceAssignment, Holder};
    use crate::layout::Layout;
    use crate::layout::filter::{DeviceFilter, Term};
    use crate::testing::{gpu, node};

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    /// An answer of the n-th kubelet, which knows one pod, which holds these.
    fn answer(seconds: u64, kubelet: u64, held: &[&str]) -> Option<Arc<Holders>> {
        answer_of(seconds, kubelet, &["p"], held)
    }

    fn answer_of(seconds: u64, kubelet: u64, pods: &[&str], held: &[&str]) -> Option<Arc<Holders>> {
        let pods = pods.iter().map(|pod| format!("default/{pod}")).collect();
        let holder = Holder {
            namespace: "default".to_owned(),
            pod: "p".to_owned(),
            container: "main".to_owned(),
        };
        let held = held.iter().map(|id| DeviceAssignment {
            resource: ResourceName::gpu(),
            id: (*id).to_owned(),
            holder: holder.clone(),
        });
        Some(Arc::new(Holders::new(at(seconds), kubelet, pods, held)))
    }

    fn without_the_second() -> Layout {
        let devices = DeviceFilter { exclude: vec![Term::Index(1, 1)], ..DeviceFilter::default() };
        Layout { devices, ..Layout::default() }
    }

    /// A node whose second GPU is offered no more, as was seen at the second 100.
    fn withdrawn() -> (InUseTracker, Inventory) {
        let mut inventory = node(2);
        inventory.set_layout(without_the_second());
        let mut tracker = InUseTracker::default();
        assert!(tracker.review(at(100), &inventory).is_empty());
        (tracker, inventory)
    }

    fn gone(tracker: &mut InUseTracker, inventory: &Inventory, now: u64) -> bool {
        let places = tracker.review(at(now), inventory);
        assert!(places.iter().all(|(_, id)| id.to_string() == "GPU-1"), "{places:?}");
        !places.is_empty()
    }

    /// Feeds answers, and says after which of them the device may go.
    fn goes_at(answers: &[(u64, u64, &[&str])]) -> Option<u64> {
        let (mut tracker, inventory) = withdrawn();
        answers.iter().find_map(|(asked, kubelet, held)| {
            tracker.answered(answer(*asked, *kubelet, held));
            gone(&mut tracker, &inventory, *asked).then_some(*asked)
        })
    }

    #[test]
    fn an_id_goes_after_two_answers_without_it_that_were_asked_after_it_was_withdrawn() {
        let free: &[&str] = &[];
        let held: &[&str] = &["GPU-1"];
        for (answers, goes) in [
            (vec![(90, 1, free), (100, 1, free), (110, 1, free), (120, 1, free)], Some(120)),
            (vec![(102, 1, free), (104, 1, free)], Some(104)),
            (vec![(102, 1, free), (102, 1, free)], None),
            (
                vec![
                    (102, 1, held),
                    (110, 1, free),
                    (120, 1, held),
                    (130, 1, free),
                    (140, 1, free),
                ],
                Some(140),
            ),
            (vec![(102, 1, &["GPU-0"][..]), (110, 1, &["GPU-0"][..])], Some(110)),
            // A kubelet that has restarted is not believed for a while.
            (vec![(110, 1, free), (120, 2, free), (130, 2, free), (419, 2, free)], None),
            (vec![(110, 1, free), (120, 2, free), (420, 2, free), (430, 2, free)], Some(430)),
            (
                vec![
                    (110, 1, held),
                    (120, 2, free),
                    (410, 2, free),
                    (425, 3, free),
                    (435, 3, free),
                ],
                None,
            ),
        ] {
            assert_eq!(goes_at(&answers), goes, "{answers:?}");
        }
    }

    #[test]
    fn a_kubelet_that_knows_no_pod_says_nothing_of_what_pods_hold() {
        let (mut tracker, inventory) = withdrawn();
        for asked in [110, 120, 1000] {
            tracker.answered(Some(Arc::new(Holders::new(at(asked), 1, BTreeSet::new(), []))));
            assert!(!gone(&mut tracker, &inventory, asked));
        }
        assert!(!tracker.is_free(at(1000), &gpu(1).uuid, &inventory));
    }

    #[test]
    fn without_an_answer_nothing_goes() {
        let (mut tracker, inventory) = withdrawn();
        tracker.answered(answer(110, 1, &[]));
        tracker.answered(None);
        assert!(!gone(&mut tracker, &inventory, 1000));
        assert!(!tracker.is_free(at(1000), &gpu(0).uuid, &inventory));
    }

    #[test]
    fn what_was_handed_out_stays_until_every_pod_is_gone_that_was_new_then() {
        let id = || [DeviceId::whole(gpu(1).uuid)];
        let (mut tracker, inventory) = withdrawn();
        tracker.answered(answer_of(110, 1, &["old"], &[]));
        tracker.answered(answer_of(150, 1, &["old", "recent"], &[]));
        tracker.given(at(200), &ResourceName::gpu(), id());
        for (asked, pods, goes) in [
            (199, &["old", "recent"][..], false),
            (205, &["old", "recent", "new"], false),
            (215, &["old", "recent", "new", "later"], false),
            (225, &["old", "new", "later"], false),
            (235, &["old", "later"], true),
        ] {
            tracker.answered(answer_of(asked, 1, pods, &[]));
            assert_eq!(gone(&mut tracker, &inventory, asked), goes, "{asked}");
        }
        // A pod that was over before the kubelet was asked.
        let (mut tracker, inventory) = withdrawn();
        tracker.answered(answer_of(110, 1, &["old"], &[]));
        tracker.given(at(200), &ResourceName::gpu(), id());
        tracker.answered(answer_of(210, 1, &["old"], &[]));
        tracker.answered(answer_of(220, 1, &["old"], &[]));
        assert!(gone(&mut tracker, &inventory, 220));
    }

    #[test]
    fn what_was_handed_out_stays_until_it_was_seen_held() {
        let (mut tracker, inventory) = withdrawn();
        let id = || [DeviceId::whole(gpu(1).uuid)];
        tracker.given(at(50), &ResourceName::gpu(), id());
        for asked in [110, 120, 130] {
            tracker.answered(answer(asked, 1, &[]));
            assert!(!gone(&mut tracker, &inventory, asked), "an init container may hold it");
        }
        // An answer that was asked before it was handed out once more is none to that.
        tracker.given(at(140), &ResourceName::gpu(), id());
        tracker.answered(answer(139, 1, &["GPU-1"]));
        tracker.answered(answer_of(145, 1, &["p", "q"], &[]));
        tracker.answered(answer_of(150, 1, &["p", "q"], &[]));
        assert!(!gone(&mut tracker, &inventory, 150));
        tracker.answered(answer_of(160, 1, &["p", "q"], &["GPU-1"]));
        tracker.answered(answer_of(170, 1, &["p", "q"], &[]));
        assert!(!gone(&mut tracker, &inventory, 170));
        tracker.answered(answer_of(180, 1, &["p", "q"], &[]));
        assert!(gone(&mut tracker, &inventory, 180));
    }

    #[test]
    fn a_device_that_is_offered_again_and_withdrawn_again_waits_anew() {
        let (mut tracker, mut inventory) = withdrawn();
        tracker.answered(answer(110, 1, &[]));
        inventory.set_layout(Layout::default());
        assert!(tracker.review(at(115), &inventory).is_empty() && !tracker.is_waiting());
        inventory.set_layout(without_the_second());
        assert!(!gone(&mut tracker, &inventory, 118));
        tracker.answered(answer(120, 1, &[]));
        assert!(!gone(&mut tracker, &inventory, 120));
        tracker.answered(answer(130, 1, &[]));
        assert!(gone(&mut tracker, &inventory, 130));
    }

    #[test]
    fn the_kubelet_is_asked_soon_only_while_its_answer_may_let_something_go() {
        let (mut tracker, inventory) = withdrawn();
        assert!(tracker.is_waiting(), "for the first answer");
        tracker.answered(answer(110, 1, &["GPU-1"]));
        assert!(!tracker.is_waiting(), "a pod holds it for as long as it likes");
        tracker.answered(answer(120, 1, &[]));
        assert!(tracker.is_waiting(), "for the second answer");
        tracker.given(at(121), &ResourceName::gpu(), [DeviceId::whole(gpu(1).uuid)]);
        assert!(!tracker.is_waiting());
        assert!(!gone(&mut tracker, &inventory, 125));
    }

    /// What can happen, some seconds after what happened before.
    #[derive(Debug, Clone)]
    enum Event {
        /// The kubelet answers: whether it has restarted, whether it knows the pod, whether that
        /// holds the device.
        Answer { restarted: bool, knows: bool, holds: bool },
        /// The device is handed out.
        Grant,
        /// The answers end.
        Silence,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            8 => (prop::bool::weighted(0.1), prop::bool::weighted(0.9), any::<bool>())
                .prop_map(|(restarted, knows, holds)| Event::Answer { restarted, knows, holds }),
            1 => Just(Event::Grant),
            1 => Just(Event::Silence),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_an_id_goes_only_on_two_answers_that_can_be_believed(
            events in prop::collection::vec((1..200_u64, event()), 1..60),
        ) {
            let (mut tracker, inventory) = withdrawn();
            let (mut now, mut kubelet, mut since) = (100, 1, None);
            // When the answers were asked that are without the device, since anything spoke for it.
            let mut without: Vec<u64> = Vec::new();
            for (pause, event) in events {
                now += pause;
                match event {
                    Event::Answer { restarted, knows, holds } => {
                        if restarted || since.is_none() {
                            kubelet += u64::from(since.is_some());
                            since = Some(now);
                            without.clear();
                        }
                        let pods: &[&str] = if knows { &["p"] } else { &[] };
                        let held: &[&str] = if knows && holds { &["GPU-1"] } else { &[] };
                        tracker.answered(answer_of(now, kubelet, pods, held));
                        match (knows, holds) {
                            (true, true) => without.clear(),
                            (true, false) => without.push(now),
                            (false, _) => {}
                        }
                    }
                    Event::Grant => {
                        tracker.given(at(now), &ResourceName::gpu(), [DeviceId::whole(gpu(1).uuid)]);
                        without.clear();
                    }
                    Event::Silence => tracker.answered(None),
                }
                if gone(&mut tracker, &inventory, now) {
                    prop_assert!(without.len() >= 2, "{without:?} at {now}");
                    let settled = kubelet == 1 || without[without.len() - 2] >= since.unwrap_or(0) + 300;
                    prop_assert!(settled, "{without:?} since {since:?} at {now}");
                }
            }
        }
    }

    #[test]
    fn a_gpu_is_free_when_nobody_holds_any_of_its_devices() {
        let inventory = node(2);
        let mut tracker = InUseTracker::default();
        let free = |tracker: &InUseTracker, now| {
            [0, 1].map(|index| tracker.is_free(at(now), &gpu(index).uuid, &inventory))
        };
        assert_eq!(free(&tracker, 10), [false; 2], "nothing is known");
        tracker.answered(answer(10, 1, &["GPU-0"]));
        assert_eq!(free(&tracker, 10), [false, true]);
        tracker.given(at(11), &ResourceName::gpu(), [DeviceId::whole(gpu(1).uuid)]);
        tracker.answered(answer(20, 1, &[]));
        assert_eq!(free(&tracker, 20), [true, false], "it was handed out a moment ago");
        assert_eq!(free(&tracker, 71), [true, true]);
        tracker.answered(answer(80, 2, &[]));
        assert_eq!(free(&tracker, 80), [false; 2], "the kubelet has restarted");
        tracker.answered(answer(380, 2, &[]));
        assert_eq!(free(&tracker, 380), [true; 2]);
    }
}
