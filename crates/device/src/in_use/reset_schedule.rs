//! When the plugin releases NVML by itself, so that a GPU can be reset.
//!
//! While NVML is released no GPU of the node is monitored. So it is released only for a GPU that
//! needs a reset and that no pod uses, for a limited time, and with growing pauses for as long as
//! the reset does not happen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::health::{GpuHealth, Moment};
use crate::in_use::tracker::InUseTracker;
use crate::inventory::Inventory;
use crate::names::Uuid;

/// The first pause between two releases for one GPU.
const FIRST_PAUSE: Duration = Duration::from_secs(120);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(3600);

/// The GPUs for which NVML was released, and when it may be released for them again.
#[derive(Debug, Clone, Default)]
pub struct ResetSchedule(BTreeMap<Uuid, LastRelease>);

#[derive(Debug, Clone, Copy)]
struct LastRelease {
    /// From when on NVML may be released again.
    next: Moment,
    pause: Duration,
}

impl ResetSchedule {
    /// The GPUs for which to release NVML now, for the time `away`; empty: do not release it.
    ///
    /// A GPU that needs another reset soon after one keeps its pause: a reset that does not help is
    /// no reason to stop monitoring the other GPUs every few minutes.
    pub fn due(
        &mut self,
        now: Moment,
        away: Duration,
        inventory: &Inventory,
        tracker: &InUseTracker,
    ) -> BTreeSet<Uuid> {
        let gpus = inventory.node_health().gpus();
        let wants = |uuid: &Uuid| gpus.get(uuid).is_some_and(GpuHealth::needs_reset);
        self.0.retain(|uuid, last| wants(uuid) || now < last.next.after(LAST_PAUSE));
        let due: BTreeSet<Uuid> = gpus
            .keys()
            .filter(|uuid| wants(uuid))
            .filter(|uuid| self.0.get(*uuid).is_none_or(|last| last.next <= now))
            .filter(|uuid| tracker.is_unused(now, uuid, inventory))
            .cloned()
            .collect();
        for uuid in &due {
            let pause = self
                .0
                .get(uuid)
                .map_or(FIRST_PAUSE, |last| last.pause.saturating_mul(2).min(LAST_PAUSE));
            self.0.insert(uuid.clone(), LastRelease { next: now.after(away).after(pause), pause });
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::health::{NodeObservation, Observation as Seen, Reading, RecoveryAction};
    use crate::in_use::holders::{DeviceAssignment, Holder, Holders};
    use crate::inventory::InventoryEvent;
    use crate::names::ResourceName;
    use crate::testing::{gpu, node};

    const AWAY: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn recommend(inventory: &mut Inventory, now: u64, action: RecoveryAction) {
        let reading = Reading { recovery_action: Some(Ok(action)), ..Reading::default() };
        let seen = NodeObservation::Gpu(gpu(1).uuid, Seen::Poll(reading));
        inventory.apply(at(now), InventoryEvent::Health(seen));
    }

    fn tracker(now: u64, in_use: &[&str]) -> InUseTracker {
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
        let mut tracker = InUseTracker::default();
        tracker.update(Some(Arc::new(Holders::new(
            at(now),
            1,
            ["default/p".to_owned()].into(),
            in_use,
        ))));
        tracker
    }

    #[test]
    fn only_for_a_gpu_that_needs_a_reset_and_that_no_pod_uses() {
        for (action, in_use, due) in [
            (RecoveryAction::GpuReset, &["GPU-0"][..], true),
            (RecoveryAction::DrainAndReset, &[], true),
            (RecoveryAction::BusReset, &[], true),
            (RecoveryAction::GpuReset, &["GPU-1"], false),
            (RecoveryAction::NodeReboot, &[], false),
            (RecoveryAction::DrainP2p, &[], false),
            (RecoveryAction::None, &[], false),
        ] {
            let mut inventory = node(2);
            recommend(&mut inventory, 5, action);
            let due_now =
                ResetSchedule::default().due(at(10), AWAY, &inventory, &tracker(10, in_use));
            assert_eq!(due_now == BTreeSet::from([gpu(1).uuid]), due, "{action:?} {in_use:?}");
            assert_eq!(due_now.is_empty(), !due);
        }
        let mut inventory = node(2);
        recommend(&mut inventory, 5, RecoveryAction::GpuReset);
        assert!(
            ResetSchedule::default()
                .due(at(10), AWAY, &inventory, &InUseTracker::default())
                .is_empty(),
            "no answer yet"
        );
    }

    #[test]
    fn pauses_grow_while_the_reset_does_not_happen() {
        let mut inventory = node(2);
        recommend(&mut inventory, 0, RecoveryAction::GpuReset);
        let mut reset_schedule = ResetSchedule::default();
        let free = tracker(0, &[]);
        let times: Vec<u64> = (0..20_000)
            .filter(|now| !reset_schedule.due(at(*now), AWAY, &inventory, &free).is_empty())
            .collect();
        let pauses: Vec<u64> =
            times.windows(2).map(|pair| pair[1] - pair[0] - AWAY.as_secs()).collect();
        assert_eq!(pauses, [120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]);
        // Healthy for a while, then the same again.
        recommend(&mut inventory, 20_000, RecoveryAction::None);
        recommend(&mut inventory, 20_010, RecoveryAction::None);
        assert!(reset_schedule.due(at(20_020), AWAY, &inventory, &free).is_empty());
        recommend(&mut inventory, 20_030, RecoveryAction::GpuReset);
        assert!(
            reset_schedule.due(at(20_040), AWAY, &inventory, &free).is_empty(),
            "the pause continues"
        );
        // Healthy for an hour beyond the pause: forgotten.
        let after = times.last().unwrap() + 30 + 3600 + 3600;
        recommend(&mut inventory, 20_050, RecoveryAction::None);
        recommend(&mut inventory, 20_060, RecoveryAction::None);
        assert!(reset_schedule.due(at(after), AWAY, &inventory, &free).is_empty());
        recommend(&mut inventory, after, RecoveryAction::GpuReset);
        let due = |reset_schedule: &mut ResetSchedule, now| {
            !reset_schedule.due(at(now), AWAY, &inventory, &free).is_empty()
        };
        assert!(due(&mut reset_schedule, after + 1));
        assert!(
            !due(&mut reset_schedule, after + 150) && due(&mut reset_schedule, after + 151),
            "it starts with the first pause"
        );
    }
}
