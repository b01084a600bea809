//! Whole nodes to start from: each function makes a new [`State`]. The same profile always has the
//! same UUIDs.

mod branch;
mod links;
mod mig;
mod model;

pub use branch::{BRANCHES, Branch};

use crate::state::{Fabric, Gpu, Mig, PciePlace, State};
use links::{Switches, bridge, mesh};
use mig::Slice;
use model::Model;

/// A node with a loaded driver.
pub type Profile = fn() -> State;

/// All profiles by name, for a command line.
pub const ALL: &[(&str, Profile)] = &[
    ("none", none),
    ("h100x1", h100x1),
    ("h200x1", h200x1),
    ("h100x8", h100x8),
    ("h100x8_mig_single", h100x8_mig_single),
    ("h100x8_mig_mixed", h100x8_mig_mixed),
    ("a100x8", a100x8),
    ("l40sx8", l40sx8),
    ("dgx1_v100", dgx1_v100),
    ("v100x16", v100x16),
    ("mixed_models", mixed_models),
];

/// The state of the profile of this name.
#[must_use]
pub fn by_name(name: &str) -> Option<State> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, profile)| profile())
}

/// A driver without GPUs.
#[must_use]
pub fn none() -> State {
    State::default()
}

/// One H100 80GB, without NVSwitch.
#[must_use]
pub fn h100x1() -> State {
    node("h100x1", &[0x1B], Model::H100, |_| PciePlace::default())
}

/// One H200 in a virtual machine: no NVLink, and a fabric that is not supported.
#[must_use]
pub fn h200x1() -> State {
    let mut state = node("h200x1", &[0x06], Model::H200, |_| PciePlace::default());
    for gpu in &mut state.gpus {
        "00000000:00:06.0".clone_into(&mut gpu.pci_bus_id);
        gpu.fabric = Some(Fabric { state: 0, ..Fabric::default() });
    }
    state
}

/// Eight H100 80GB on four NVSwitches, fabric completed; GPUs 0 to 3 on NUMA node 0, 4 to 7 on node
/// 1.
#[must_use]
pub fn h100x8() -> State {
    let buses = [0x1B, 0x43, 0x52, 0x61, 0x9D, 0xC3, 0xD1, 0xDF];
    let mut state = node("h100x8", &buses, Model::H100, |index| alone(index, index / 4));
    let switches =
        Switches { buses: &[0x07, 0x08, 0x09, 0x0A], links: 18, version: links::NVLINK_4 };
    for gpu in &mut state.gpus {
        gpu.nvlinks = switches.links();
        gpu.fabric = Some(Fabric::default());
    }
    state
}

/// [`h100x8`] with every GPU cut into seven 1g.10gb.
#[must_use]
pub fn h100x8_mig_single() -> State {
    let mut state = h100x8();
    for gpu in &mut state.gpus {
        mig::cut(gpu, &[Slice::G1; 7]);
    }
    state
}

/// [`h100x8`] with GPUs 0 and 1 cut into 3g.40gb, 2g.20gb and two 1g.10gb, GPUs 2 and 3 into seven
/// 1g.10gb, and the others not in MIG mode.
#[must_use]
pub fn h100x8_mig_mixed() -> State {
    let mut state = h100x8();
    for (index, gpu) in state.gpus.iter_mut().enumerate() {
        match index {
            0 | 1 => mig::cut(gpu, &[Slice::G3, Slice::G2, Slice::G1, Slice::G1]),
            2 | 3 => mig::cut(gpu, &[Slice::G1; 7]),
            _ => {}
        }
    }
    state
}

/// Eight A100 80GB PCIe, two under each PCIe switch, each two joined by NVLink bridges.
#[must_use]
pub fn a100x8() -> State {
    let buses = [0x17, 0x1A, 0x31, 0x34, 0x98, 0x9B, 0xB1, 0xB4];
    let mut state = node("a100x8", &buses, Model::A100, paired);
    for first in (0..buses.len()).step_by(2) {
        bridge(&mut state.gpus, first, first + 1);
    }
    state
}

/// Eight L40S without NVLink, on the host bridges of two NUMA nodes.
#[must_use]
pub fn l40sx8() -> State {
    let buses = [0x16, 0x27, 0x38, 0x49, 0x96, 0xA7, 0xB8, 0xC9];
    node("l40sx8", &buses, Model::L40S, |index| PciePlace {
        board: index,
        switch: index,
        switch_tree: index,
        host_bridge: index / 4,
        numa: index / 4,
    })
}

/// A DGX-1: eight V100 in a hybrid cube mesh of NVLinks, two under each PCIe switch.
#[must_use]
pub fn dgx1_v100() -> State {
    let buses = [0x06, 0x07, 0x0A, 0x0B, 0x85, 0x86, 0x89, 0x8A];
    let mut state = node("dgx1_v100", &buses, Model::V100, paired);
    mesh(&mut state.gpus);
    state
}

/// Sixteen V100 as in a DGX-2: two boards of eight, each GPU with a link to every NVSwitch of its
/// board.
#[must_use]
pub fn v100x16() -> State {
    let buses = [
        0x34, 0x36, 0x39, 0x3B, 0x57, 0x59, 0x5C, 0x5E, 0xB7, 0xB9, 0xBC, 0xBE, 0xE0, 0xE2, 0xE5,
        0xE7,
    ];
    let mut state = node("v100x16", &buses, Model::V100_DGX2, |index| PciePlace {
        board: index,
        switch: index / 2,
        switch_tree: index / 4,
        host_bridge: index / 4,
        numa: index / 8,
    });
    let lower = [0x60, 0x61, 0x62, 0x63, 0x64, 0x65];
    let upper = [0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5];
    for (index, gpu) in state.gpus.iter_mut().enumerate() {
        let buses = if index < 8 { &lower } else { &upper };
        gpu.nvlinks = Switches { buses, links: 6, version: links::NVLINK_2 }.links();
    }
    state
}

/// An A100, an L40S and a T4 in one node.
#[must_use]
pub fn mixed_models() -> State {
    let mut state =
        node("mixed_models", &[0x3B, 0x5E, 0xAF], Model::A100, |index| alone(index, index / 2));
    for (gpu, model) in state.gpus.iter_mut().zip([Model::A100, Model::L40S, Model::T4]) {
        *gpu = Gpu {
            minor: gpu.minor,
            pcie: gpu.pcie.clone(),
            ..model.gpu(&gpu.uuid, &gpu.pci_bus_id)
        };
    }
    state
}

/// A node of GPUs of one model, one on each PCI bus.
fn node(profile: &str, buses: &[u32], model: Model, place: impl Fn(u32) -> PciePlace) -> State {
    let gpus = (0..).zip(buses).map(|(minor, bus)| Gpu {
        minor,
        pcie: place(minor),
        ..model.gpu(&format!("GPU-{}", model::uuid(&format!("{profile}/{minor}"))), &bus_id(*bus))
    });
    State { gpus: gpus.collect(), ..State::default() }
}

/// Each GPU under a host bridge of its own.
fn alone(index: u32, numa: u32) -> PciePlace {
    PciePlace { board: index, switch: index, switch_tree: index, host_bridge: index, numa }
}

/// Two GPUs under each switch, two switches under each host bridge, a host bridge on each NUMA
/// node.
fn paired(index: u32) -> PciePlace {
    PciePlace {
        board: index,
        switch: index / 2,
        switch_tree: index / 2,
        host_bridge: index / 4,
        numa: index / 4,
    }
}

fn bus_id(bus: u32) -> String {
    format!("00000000:{bus:02X}:00.0")
}

/// MIG mode can be had, and is off.
fn mig_off() -> Option<Mig> {
    Some(Mig::default())
}
