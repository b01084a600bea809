//! The search against the oracle, on thousands of random machines.

use device::allocation::AllocationPolicy;
use device::topology::{NvLinkVersion, ObservedLink, PcieLevel, Remote, Topology};
use proptest::prelude::*;

use crate::ask;
use crate::machines::{self, bus, links};
use crate::oracle::Oracle;

const LEVELS: [PcieLevel; 7] = [
    PcieLevel::Unknown,
    PcieLevel::AcrossSystem,
    PcieLevel::SameNode,
    PcieLevel::HostBridge,
    PcieLevel::MultipleSwitches,
    PcieLevel::SingleSwitch,
    PcieLevel::SameBoard,
];

/// A random machine. Each pair draws its PCIe level and its direct links from short lists, so that
/// equal pairs, and with them interchangeable GPUs, are common; `blocks` makes pairs depend only on
/// the blocks that they are in.
fn machine() -> impl Strategy<Value = Topology> {
    let draw = |most| proptest::collection::vec(0..most, 45);
    let numa = proptest::collection::vec(-1_i64..3, 1..=10);
    (
        numa,
        draw(7_usize),
        draw(4_usize),
        proptest::collection::vec(0..3_usize, 10),
        1_usize..6,
        0_usize..3,
    )
        .prop_map(|(numa, pcie, direct, switched, block, kind)| {
            let slot = |a: usize, b: usize| {
                let (a, b) = if kind == 0 { (a / block, b / block) } else { (a, b) };
                let (low, high) = (a.min(b), a.max(b));
                (high * (high + 1) / 2 + low) % 45
            };
            let count = numa.len();
            let of = |gpu: usize| -> Vec<ObservedLink> {
                let peers = (0..count).filter(|peer| *peer != gpu);
                let direct = peers.flat_map(|peer| {
                    links(
                        direct[slot(gpu, peer)].saturating_sub(1),
                        Remote::Gpu(bus(peer)),
                        NvLinkVersion::V2,
                    )
                });
                let fabric = if kind == 2 { switched[gpu] } else { 0 };
                direct.chain(links(fabric, Remote::Switch, NvLinkVersion::V3)).collect()
            };
            machines::build(&numa, |a, b| LEVELS[pcie[slot(a, b)]], of)
        })
}

/// The bits of a draw as GPUs of a machine.
fn some(count: usize, bits: u16) -> Vec<usize> {
    (0..count).filter(|gpu| bits >> gpu & 1 == 1).collect()
}

proptest! {
    #![proptest_config(crate::cases(3000))]

    #[test]
    fn the_search_finds_what_the_oracle_finds(
        topology in machine(),
        free in any::<u16>(),
        more in any::<u16>(),
        must in any::<u16>(),
        few in any::<u16>(),
        extra in 0_usize..10,
    ) {
        let free = some(topology.gpus().len(), free | more);
        let must: Vec<usize> =
            free.iter().copied().filter(|gpu| (must & few) >> gpu & 1 == 1).collect();
        let size = (must.len() + extra).min(free.len());
        // A rejected draw counts against the run; this one is a machine without a free GPU.
        if size == 0 {
            return Ok(());
        }
        let index = machines::index(&topology, AllocationPolicy::default());
        let mut answer = ask(&index, &free, &must, size);
        prop_assert_eq!(&answer[..must.len()], &must[..]);
        answer.sort_unstable();
        let mut oracle = Oracle::new(&topology);
        let best = oracle.best(&free, &must, size);
        prop_assert_eq!(oracle.score(&free, &answer), oracle.score(&free, &best));
    }
}
