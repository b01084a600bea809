//! GPU models, and UUIDs made from a name.

use super::mig_off;
use crate::state::{Gpu, RemappedRows, event_type};

/// What all GPUs of one model have in common.
#[derive(Clone, Copy)]
pub(super) struct Model {
    name: &'static str,
    pci_device_id: u32,
    memory_mib: u64,
    compute_capability: (i32, i32),
    supported_events: u64,
    remaps_rows: bool,
    mig: bool,
}

/// What GPUs before Ampere can tell.
const EVENTS_BEFORE_AMPERE: u64 =
    event_type::SINGLE_BIT_ECC | event_type::DOUBLE_BIT_ECC | event_type::XID | event_type::CLOCK;

impl Model {
    pub(super) const H100: Self = Self {
        name: "NVIDIA H100 80GB HBM3",
        pci_device_id: 0x2330_10DE,
        memory_mib: 81_559,
        compute_capability: (9, 0),
        supported_events: event_type::HOPPER,
        remaps_rows: true,
        mig: true,
    };
    pub(super) const H200: Self =
        Self { name: "NVIDIA H200", pci_device_id: 0x2335_10DE, memory_mib: 143_771, ..Self::H100 };
    pub(super) const A100: Self = Self {
        name: "NVIDIA A100 80GB PCIe",
        pci_device_id: 0x20B5_10DE,
        memory_mib: 81_920,
        compute_capability: (8, 0),
        ..Self::H100
    };
    pub(super) const L40S: Self = Self {
        name: "NVIDIA L40S",
        pci_device_id: 0x26B9_10DE,
        memory_mib: 46_068,
        compute_capability: (8, 9),
        supported_events: event_type::HOPPER & !event_type::MIG_CONFIG_CHANGE,
        mig: false,
        ..Self::H100
    };
    pub(super) const T4: Self = Self {
        name: "Tesla T4",
        pci_device_id: 0x1EB8_10DE,
        memory_mib: 15_360,
        compute_capability: (7, 5),
        supported_events: EVENTS_BEFORE_AMPERE,
        remaps_rows: false,
        mig: false,
    };
    pub(super) const V100: Self = Self {
        name: "Tesla V100-SXM2-32GB",
        pci_device_id: 0x1DB5_10DE,
        memory_mib: 32_768,
        compute_capability: (7, 0),
        ..Self::T4
    };
    pub(super) const V100_DGX2: Self =
        Self { name: "Tesla V100-SXM3-32GB", pci_device_id: 0x1DB8_10DE, ..Self::V100 };

    pub(super) fn gpu(&self, uuid: &str, pci_bus_id: &str) -> Gpu {
        Gpu {
            uuid: uuid.to_owned(),
            name: self.name.to_owned(),
            pci_bus_id: pci_bus_id.to_owned(),
            pci_device_id: self.pci_device_id,
            memory_mib: self.memory_mib,
            compute_capability: self.compute_capability,
            serial: serial(uuid),
            supported_events: self.supported_events,
            remapped_rows: self.remaps_rows.then(RemappedRows::default),
            mig: if self.mig { mig_off() } else { None },
            ..Gpu::default()
        }
    }
}

/// A UUID that depends on the name alone, in the form of a random one.
pub(super) fn uuid(name: &str) -> String {
    let high = hash(name, 0xcbf2_9ce4_8422_2325);
    let low = hash(name, high);
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    )
}

/// A board's serial number has 13 digits.
fn serial(uuid: &str) -> String {
    format!("1{:012}", hash(uuid, 1) % 1_000_000_000_000)
}

/// FNV-1a, stirred once more so that names alike do not make numbers alike.
fn hash(text: &str, seed: u64) -> u64 {
    let hash = text
        .bytes()
        .fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (hash ^ hash >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash >> 32
}
