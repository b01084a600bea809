//! What the driver reports.

use serde::{Deserialize, Serialize};

/// Something that the driver reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Grows from event to event; the library delivers those above the highest it has seen. What is
    /// in the file at `nvmlInit` has happened before and is not delivered.
    pub seq: u64,
    /// UUID of the GPU, as in [`Gpu::uuid`](super::Gpu::uuid); empty: no GPU, and a NULL handle.
    pub gpu: String,
    /// The bit of `nvmlEventType*`, e.g. [`event_type::XID`].
    pub event_type: u64,
    /// The Xid number for an Xid, else 0.
    #[serde(default)]
    pub data: u64,
    /// GPU instance id; absent: 0xFFFFFFFF, the event is of the whole GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_instance: Option<u32>,
    /// Compute instance id; absent: 0xFFFFFFFF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_instance: Option<u32>,
    /// It comes to every event set, whatever that is registered for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stray: bool,
    /// How many times in a row it is delivered (a storm); 1 by default.
    #[serde(default = "once")]
    pub count: u32,
}

impl Event {
    /// An Xid of a GPU as a whole, without a sequence number yet.
    #[must_use]
    pub fn xid(gpu: &str, xid: u64) -> Self {
        Self {
            seq: 0,
            gpu: gpu.to_owned(),
            event_type: event_type::XID,
            data: xid,
            gpu_instance: None,
            compute_instance: None,
            stray: false,
            count: 1,
        }
    }
}

fn once() -> u32 {
    1
}

/// Bits of `nvmlEventType*` (nvml.h).
pub mod event_type {
    /// `nvmlEventTypeSingleBitEccError`
    pub const SINGLE_BIT_ECC: u64 = 0x1;
    /// `nvmlEventTypeDoubleBitEccError`
    pub const DOUBLE_BIT_ECC: u64 = 0x2;
    /// `nvmlEventTypePState`
    pub const PSTATE: u64 = 0x4;
    /// `nvmlEventTypeXidCriticalError`
    pub const XID: u64 = 0x8;
    /// `nvmlEventTypeClock`
    pub const CLOCK: u64 = 0x10;
    /// `nvmlEventMigConfigChange`
    pub const MIG_CONFIG_CHANGE: u64 = 0x100;
    /// `nvmlEventTypeGpuRecoveryAction`
    pub const RECOVERY_ACTION: u64 = 0x8000;
    /// What a Hopper GPU supports: the answer of an H200 with driver 580.159.04. It is every type
    /// of its nvml.h, which gives the bits 0x20 and 0x40 to none.
    pub const HOPPER: u64 = 0xFF9F;
}
