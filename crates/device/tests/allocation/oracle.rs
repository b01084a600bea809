//! The scoring model for whole GPUs, implemented again in a slow and obvious way: every set of the
//! right size is scored from the topology alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use device::topology::Topology;

/// In the order of the model: worst pair, sum, residual value of the links, NUMA nodes, residual
/// value of the nodes, indices.
pub(crate) type Score = (u32, u32, u32, Reverse<usize>, usize, Reverse<Vec<usize>>);

/// Keeps what it computed, or thousands of cases would take minutes.
pub(crate) struct Oracle<'a> {
    topology: &'a Topology,
    packed: BTreeMap<(Vec<usize>, usize), u32>,
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(topology: &'a Topology) -> Self {
        Self { topology, packed: BTreeMap::new() }
    }

    /// The best set of `size` of the free GPUs with all of `must`.
    pub(crate) fn best(&mut self, free: &[usize], must: &[usize], size: usize) -> Vec<usize> {
        let sets =
            subsets(free, size).into_iter().filter(|set| must.iter().all(|gpu| set.contains(gpu)));
        sets.max_by_key(|set| self.score(free, set)).unwrap()
    }

    pub(crate) fn score(&mut self, free: &[usize], set: &[usize]) -> Score {
        let left: Vec<usize> = free.iter().copied().filter(|gpu| !set.contains(gpu)).collect();
        let links_left = [2, 4, 8].into_iter().map(|size| self.pack(&left, size)).sum();
        let nodes: BTreeSet<_> = set.iter().map(|gpu| self.node(*gpu)).collect();
        let all_nodes: BTreeSet<_> = free.iter().map(|gpu| self.node(*gpu)).collect();
        let on = |node| left.iter().filter(|gpu| self.node(**gpu) == node).count();
        let nodes_left = all_nodes
            .into_iter()
            .map(|node| [2, 4, 8].map(|k| on(node) / k * k).iter().sum::<usize>())
            .sum();
        let pairs = self.pairs(set);
        let worst = pairs.iter().copied().min().unwrap_or(u32::MAX);
        (
            worst,
            pairs.iter().sum(),
            links_left,
            Reverse(nodes.len()),
            nodes_left,
            Reverse(set.to_vec()),
        )
    }

    fn node(&self, gpu: usize) -> Option<u32> {
        self.topology.gpus()[gpu].numa_node.map(|node| node.number())
    }

    fn pairs(&self, set: &[usize]) -> Vec<u32> {
        subsets(set, 2)
            .iter()
            .map(|pair| self.topology.pair(pair[0], pair[1]).bandwidth())
            .collect()
    }

    /// The most that disjoint sets of `size` out of these GPUs are worth: `size` times its worst
    /// bandwidth for each.
    fn pack(&mut self, gpus: &[usize], size: usize) -> u32 {
        let Some((first, others)) = gpus.split_first() else { return 0 };
        if let Some(known) = self.packed.get(&(gpus.to_vec(), size)) {
            return *known;
        }
        let mut best = self.pack(others, size);
        for mates in subsets(others, size - 1) {
            let set = [&[*first], &mates[..]].concat();
            let left: Vec<usize> =
                others.iter().copied().filter(|gpu| !mates.contains(gpu)).collect();
            let worst = self.pairs(&set).into_iter().min().unwrap();
            best = best.max(u32::try_from(size).unwrap() * worst + self.pack(&left, size));
        }
        self.packed.insert((gpus.to_vec(), size), best);
        best
    }
}

/// All sets of `size` of these.
pub(crate) fn subsets(of: &[usize], size: usize) -> Vec<Vec<usize>> {
    if size == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (at, first) in of.iter().enumerate() {
        for rest in subsets(&of[at + 1..], size - 1) {
            all.push([&[*first], &rest[..]].concat());
        }
    }
    all
}
