//! What is expected to be chosen on real machines, and why.

use device::allocation::{AllocationPolicy, WholeGpuPolicy};
use device::topology::{NvLinkVersion, PcieLevel, Remote};

use crate::machines::{self, Machine};
use crate::oracle::Oracle;

/// The choice on a machine under the default policy.
fn choose(machine: Machine, free: &[usize], size: usize) -> Vec<usize> {
    crate::ask(&machines::index(&machine.topology, AllocationPolicy::default()), free, &[], size)
}

const ALL: [usize; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

#[test]
fn dgx1_gives_a_pair_with_two_links_that_leaves_the_other_island_and_its_own_pairs_whole() {
    // 0-4 has two links as well, but would break both islands.
    assert_eq!(choose(machines::dgx1_v100(), &ALL, 2), [0, 3]);
    // 1-2 is what is left of the broken island; 4-7 and 5-6 are as fast.
    assert_eq!(choose(machines::dgx1_v100(), &[1, 2, 4, 5, 6, 7], 2), [1, 2]);
    // 0-4 and 4-7 are equally fast; after 4-7 the two that stay are linked, after 0-4 they are not.
    assert_eq!(choose(machines::dgx1_v100(), &[0, 1, 4, 7], 2), [4, 7]);
}

#[test]
fn dgx1_gives_four_gpus_of_one_island() {
    assert_eq!(choose(machines::dgx1_v100(), &ALL, 4), [0, 1, 2, 3]);
    assert_eq!(choose(machines::dgx1_v100(), &[1, 2, 3, 4, 5, 6, 7], 4), [4, 5, 6, 7]);
}

#[test]
fn dgx1_takes_single_gpus_from_the_island_that_is_broken_already() {
    // 0 is taken. Without 1 the pair 2-3 stays, without 3 the pair 1-2, both with two links;
    // without 2 only single links.
    assert_eq!(choose(machines::dgx1_v100(), &[1, 2, 3, 4, 5, 6, 7], 1), [1]);
}

#[test]
fn dgx1_completes_what_must_be_included() {
    let index = machines::index(&machines::dgx1_v100().topology, AllocationPolicy::default());
    // 3 and 4 both have two links to 0, but 4 is on the other CPU's island.
    assert_eq!(crate::ask(&index, &ALL, &[0], 2), [0, 3]);
    // 1 and 6 are not linked. 2 and 5 are linked with both: 5 by two links each, 2 by two and one.
    assert_eq!(crate::ask(&index, &ALL, &[1, 6], 3), [1, 6, 5]);
}

#[test]
fn dgx2_fills_one_cpu_before_the_other() {
    let all: Vec<usize> = (0..16).collect();
    assert_eq!(choose(machines::dgx2_v100(), &all, 8), [0, 1, 2, 3, 4, 5, 6, 7]);
    // All links are equal; eight of one CPU are there only on the second.
    assert_eq!(choose(machines::dgx2_v100(), &all[1..], 8), [8, 9, 10, 11, 12, 13, 14, 15]);
    // Four are left of the first CPU: they serve, and the second stays whole.
    assert_eq!(choose(machines::dgx2_v100(), &all[4..], 4), [4, 5, 6, 7]);
}

#[test]
fn dgx_a100_knows_its_numa_nodes_of_two() {
    assert_eq!(choose(machines::dgx_a100(), &ALL, 4), [0, 1, 2, 3]);
    // 0 is taken: 2 and 3 share a node, 1 is alone on its own.
    assert_eq!(choose(machines::dgx_a100(), &[1, 2, 3, 4, 5, 6, 7], 2), [2, 3]);
    assert_eq!(choose(machines::dgx_a100(), &[2, 3, 5, 6, 7], 1), [5]);
}

#[test]
fn dgx_h100_uses_a_broken_numa_node_up_before_a_whole_one() {
    assert_eq!(choose(machines::dgx_h100(), &[0, 1, 2, 3, 4, 5], 2), [4, 5]);
    assert_eq!(choose(machines::dgx_h100(), &[0, 1, 2, 3, 5], 1), [5]);
    // But a job is not split over two nodes to keep a third one whole.
    assert_eq!(choose(machines::dgx_h100(), &[0, 4, 5, 6, 7], 2), [4, 5]);
    assert_eq!(choose(machines::dgx_h100(), &[2, 3, 4, 5, 6, 7], 4), [4, 5, 6, 7]);
}

#[test]
fn bridged_a100_stay_in_their_pairs() {
    assert_eq!(choose(machines::a100_pcie_bridged(), &ALL, 2), [0, 1]);
    // 1 and 4 have lost their partners.
    assert_eq!(choose(machines::a100_pcie_bridged(), &[1, 2, 3, 4, 6, 7], 2), [2, 3]);
    assert_eq!(choose(machines::a100_pcie_bridged(), &[0, 1, 2, 3, 5], 1), [5]);
    // Two whole pairs of one CPU, rather than three GPUs there and a fourth across.
    assert_eq!(choose(machines::a100_pcie_bridged(), &[0, 1, 2, 4, 5, 6, 7], 4), [4, 5, 6, 7]);
}

#[test]
fn l40s_share_a_switch_then_a_root() {
    assert_eq!(choose(machines::l40s_two_roots(), &ALL, 2), [0, 1]);
    assert_eq!(choose(machines::l40s_two_roots(), &ALL, 4), [0, 1, 2, 3]);
    // 2 has lost its neighbour, so it costs nothing that anyone could want.
    assert_eq!(choose(machines::l40s_two_roots(), &[0, 1, 2, 4, 5, 6, 7], 1), [2]);
    assert_eq!(choose(machines::l40s_two_roots(), &[0, 2, 3, 4, 5, 6, 7], 2), [2, 3]);
}

#[test]
fn gh200_are_all_alike_so_the_first_serve() {
    assert_eq!(choose(machines::gh200_quad(), &[0, 1, 2, 3], 2), [0, 1]);
    assert_eq!(choose(machines::gh200_quad(), &[1, 2, 3], 1), [1]);
}

#[test]
fn a_workstation_gives_the_first_card_and_then_the_other() {
    assert_eq!(choose(machines::workstation(), &[0, 1], 1), [0]);
    assert_eq!(choose(machines::workstation(), &[1], 1), [1]);
    assert_eq!(choose(machines::workstation(), &[0, 1], 2), [0, 1]);
}

#[test]
fn an_island_of_eight_is_kept_for_a_job_of_eight() {
    let island = |gpu: usize| gpu / 8;
    let topology = machines::build(
        &[0; 12],
        |_, _| PcieLevel::SameNode,
        |gpu| {
            let peers = (0..12).filter(|peer| *peer != gpu && island(*peer) == island(gpu));
            peers
                .flat_map(|peer| {
                    machines::links(1, Remote::Gpu(machines::bus(peer)), NvLinkVersion::V4)
                })
                .collect()
        },
    );
    let all: Vec<usize> = (0..12).collect();
    // With either island broken, five pairs and two fours can still be made; an eight only with the
    // first one whole.
    assert_eq!(choose(Machine { name: "eight and four", topology }, &all, 1), [8]);
}

#[test]
fn the_other_policies_see_less() {
    let ask = |whole, free: &[usize]| {
        let policy = AllocationPolicy { whole, ..AllocationPolicy::default() };
        crate::ask(&machines::index(&machines::dgx1_v100().topology, policy), free, &[], 2)
    };
    // 0-4 has two links across the CPUs, 4-5 has one on one CPU.
    assert_eq!(ask(WholeGpuPolicy::Optimal, &[0, 4, 5]), [0, 4]);
    assert_eq!(ask(WholeGpuPolicy::Numa, &[0, 4, 5]), [4, 5]);
    assert_eq!(ask(WholeGpuPolicy::Index, &[0, 4, 5]), [0, 4]);
    // 1-2 has two links, 0-1 has one; both are on one CPU.
    assert_eq!(ask(WholeGpuPolicy::Optimal, &[0, 1, 2]), [1, 2]);
    assert_eq!(ask(WholeGpuPolicy::Numa, &[0, 1, 2]), [0, 1]);
    assert_eq!(ask(WholeGpuPolicy::Index, &[0, 1, 2]), [0, 1]);
}

#[test]
fn every_machine_gives_what_the_oracle_gives_whatever_is_free() {
    for machine in machines::all().into_iter().filter(|machine| machine.topology.gpus().len() <= 8)
    {
        let index = machines::index(&machine.topology, AllocationPolicy::default());
        let mut oracle = Oracle::new(&machine.topology);
        for bits in 1_usize..1 << machine.topology.gpus().len() {
            let free: Vec<usize> = ALL.into_iter().filter(|gpu| bits >> gpu & 1 == 1).collect();
            for size in 1..=free.len() {
                let answer = crate::ask(&index, &free, &[], size);
                assert_eq!(
                    answer,
                    oracle.best(&free, &[], size),
                    "{size} of {free:?} on {}",
                    machine.name
                );
            }
        }
    }
}
