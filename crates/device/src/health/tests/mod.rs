//! Tests of health, by what they claim.

mod ages;
mod alarm;
mod catalogue;
mod clear_rules;
mod enumeration;
mod first_answer;
mod hysteresis;
mod manual;
mod node;
mod policy;
mod policy_change;
mod properties;
mod repair;
mod restart;
mod states;
mod texts;

use std::num::NonZeroU32;
use std::time::Duration;

use super::xid::XidClass;
use super::*;
use crate::gpu::Placement;

/// Evidence of every kind.
const EVIDENCE: [RepairEvidence; 5] = [
    RepairEvidence::NewBoot,
    RepairEvidence::DriverReload,
    RepairEvidence::Reenumerated,
    RepairEvidence::Reset,
    RepairEvidence::Manual,
];

/// A moment, in milliseconds.
fn ms(milliseconds: u64) -> Moment {
    Moment(Duration::from_millis(milliseconds))
}

fn error(code: u32) -> NvmlError {
    NvmlError { call: "nvmlDeviceGetFieldValues", code: ReturnCode(code) }
}

/// What a GPU answers that is well, on a driver with the recovery action.
fn well() -> Reading {
    Reading {
        recovery_action: Some(Ok(RecoveryAction::None)),
        remapped_rows: Some(Ok(RemappedRows::default())),
        fabric: Some(Ok(Fabric {
            state: FabricState::Completed,
            status: ReturnCode(0),
            health_mask: 0,
        })),
        probe: Some(Ok(())),
    }
}

/// What a GPU answers that is well, on a driver without it.
fn well_without_field() -> Reading {
    Reading { recovery_action: Some(Err(error(3))), ..well() }
}

fn asks_for(action: RecoveryAction) -> Reading {
    Reading { recovery_action: Some(Ok(action)), ..well() }
}

fn xid(number: u32) -> Observation {
    Observation::Xid { xid: Xid(number), scope: Scope::Gpu }
}

fn xid_cause(number: u32) -> Cause {
    Cause::Xid { xid: Xid(number), scope: Scope::Gpu, configured: false }
}

fn count(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

/// One GPU, its policy and a clock that moves ten seconds with each poll.
struct Bench {
    gpu: GpuHealth,
    policy: HealthPolicy,
    now: Moment,
}

impl Bench {
    /// A GPU that answered its first poll with this.
    fn after(first: Reading) -> Self {
        Self::with(HealthPolicy::default(), first)
    }

    fn with(policy: HealthPolicy, first: Reading) -> Self {
        let mut bench = Self { gpu: GpuHealth::default(), policy, now: ms(0) };
        bench.observe(Observation::Enumerated { session: 1 });
        bench.poll(&first, 1);
        bench
    }

    /// A millisecond later.
    fn observe(&mut self, observation: Observation) -> HealthChange {
        self.now = self.now.after(Duration::from_millis(1));
        self.gpu.apply(self.now, observation, &self.policy)
    }

    fn poll(&mut self, reading: &Reading, times: usize) {
        for _ in 0..times {
            self.now = self.now.after(Duration::from_secs(10));
            self.gpu.apply(self.now, Observation::Poll(reading.clone()), &self.policy);
        }
    }

    fn is_healthy(&self) -> bool {
        self.gpu.health_of(GpuPart::Whole).is_healthy()
    }

    /// The values of all causes, the worst first.
    fn cause_names(&self) -> Vec<&'static str> {
        self.gpu
            .health_of(GpuPart::Whole)
            .reasons()
            .iter()
            .map(|reason| reason.cause.as_str())
            .collect()
    }
}

fn policy(rules: HealthRules) -> HealthPolicy {
    HealthPolicy::new(rules, Overrides::default()).0
}

fn thresholds(set: impl FnOnce(&mut Thresholds)) -> HealthPolicy {
    let mut rules = HealthRules::default();
    set(&mut rules.thresholds);
    policy(rules)
}
