//! A day of random jobs on real machines: which GPUs first-fit, the partition-sum model and ours
//! give them.
//!
//! `cargo run --release --example placement` prints the table. The same jobs come at the same times
//! for all three, so the same number of GPUs is busy at any time; only which ones differs.
//!
//! A job got its best possible set if its worst pair and its sum of bandwidths are those of the
//! best set of its size on the empty machine. What it lost is the bandwidth of its worst pair
//! compared with that set.
//!
//! - First-fit takes the free GPUs with the lowest indices.
//! - Partition-sum is the model of NVIDIA's plugin: cut all free GPUs into sets of the size asked
//!   for (one may be short) so that the sum of all pair scores is greatest, and take the best set
//!   of that cut. A pair scores 10 to 60 by PCIe level and 100 for each direct NVLink, up to 18;
//!   links to an NVSwitch score nothing. It enumerates all cuts, up to millions for 16 GPUs; here
//!   the same cut is found by remembering what is best for each rest, so it needs no cap. It sees
//!   the free GPUs in the order of the kubelet's list, which is random; "sorted" is the same with
//!   that order by index, which no kubelet gives.

#[path = "../tests/allocation/machines.rs"]
mod machines;

use std::collections::BTreeMap;

use device::allocation::{AllocationIndex, AllocationPolicy, Request, preferred};
use device::topology::{NvLink, PcieLevel, Topology};

const DAYS: u64 = 50;
const MINUTES: u32 = 24 * 60;

fn main() {
    println!(
        "{DAYS} days. Of the jobs with two or more GPUs: % that got their best possible set /"
    );
    println!(
        "% of bandwidth lost at the worst pair / % that lie on more NUMA nodes than they need.\n"
    );
    println!("| machine | jobs | first-fit | partition-sum | partition-sum, sorted | ours |");
    println!("|---|---:|---:|---:|---:|---:|");
    let mut total = [Tally::default(); 4];
    for machine in machines::all() {
        let node = Node::new(&machine.topology);
        let mut sum = [Tally::default(); 4];
        for day in 0..DAYS {
            let jobs = jobs(day, node.ids.len());
            for (sum, placer) in sum.iter_mut().zip(Placer::ALL) {
                sum.add(run(&node, placer, &jobs, day));
            }
        }
        print_row(machine.name, &sum);
        total.iter_mut().zip(sum).for_each(|(total, sum)| total.add(sum));
    }
    print_row("all", &total);
}

fn print_row(name: &str, tallies: &[Tally; 4]) {
    let percent = |part: u64, of: u64| 100.0 * part as f64 / of.max(1) as f64;
    let cells = tallies.map(|t| {
        let (best, lost, astray) =
            (percent(t.best, t.jobs), percent(t.lost, t.possible), percent(t.astray, t.jobs));
        format!("{best:.1} / {lost:.2} / {astray:.1}")
    });
    println!("| {name} | {} | {} |", tallies[0].jobs, cells.join(" | "));
}

/// What became of the jobs with two GPUs or more.
#[derive(Clone, Copy, Default)]
struct Tally {
    jobs: u64,
    /// Those that got their best possible set.
    best: u64,
    /// Bandwidth lost at the worst pair, and the bandwidth of the worst pair of the best set: GB/s,
    /// summed up.
    lost: u64,
    possible: u64,
    /// Those on more NUMA nodes than any set of their size needs.
    astray: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.jobs += other.jobs;
        self.best += other.best;
        self.lost += other.lost;
        self.possible += other.possible;
        self.astray += other.astray;
    }
}

/// A job: when it comes, how many GPUs it wants, how long it runs (minutes).
struct Job {
    at: u32,
    size: usize,
    length: u32,
}

/// The jobs of one day, about as many as keep three quarters of the GPUs busy.
fn jobs(day: u64, gpus: usize) -> Vec<Job> {
    let mut random = Random(day + 1);
    let sizes: Vec<usize> =
        [1, 1, 1, 2, 2, 2, 4, 4, 8].into_iter().filter(|size| *size <= gpus).collect();
    let mean_size = sizes.iter().sum::<usize>() as f64 / sizes.len() as f64;
    let mean_length = 90.0;
    let gap = mean_size * mean_length / (0.75 * gpus as f64);
    let mut jobs = Vec::new();
    let mut at = 0.0;
    loop {
        at += random.exponential(gap);
        if at >= f64::from(MINUTES) {
            return jobs;
        }
        let size = sizes[random.below(sizes.len())];
        jobs.push(Job {
            at: at as u32,
            size,
            length: 5 + random.exponential(mean_length - 5.0) as u32,
        });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Placer {
    FirstFit,
    PartitionSum,
    PartitionSumSorted,
    Ours,
}

impl Placer {
    const ALL: [Self; 4] =
        [Self::FirstFit, Self::PartitionSum, Self::PartitionSumSorted, Self::Ours];
}

/// A machine with what the simulation asks of it again and again.
struct Node<'a> {
    topology: &'a Topology,
    index: AllocationIndex,
    ids: Vec<String>,
    /// Worst pair, sum and NUMA nodes of the best set of a size on the empty machine.
    possible: BTreeMap<usize, (u32, u32, usize)>,
}

impl<'a> Node<'a> {
    fn new(topology: &'a Topology) -> Self {
        let index = machines::index(topology, AllocationPolicy::default());
        let ids = topology.gpus().iter().map(|gpu| gpu.uuid.to_string()).collect();
        let mut node = Self { topology, index, ids, possible: BTreeMap::new() };
        let all: Vec<usize> = (0..topology.gpus().len()).collect();
        for size in [2, 4, 8].into_iter().filter(|size| *size <= all.len()) {
            let sets = subsets(&all, size);
            let best = sets.iter().map(|set| node.bandwidth(set)).max().unwrap_or_default();
            // The fewest NUMA nodes that any set has, whatever its links.
            let nodes = sets.iter().map(|set| node.nodes(set)).min().unwrap_or_default();
            node.possible.insert(size, (best.0, best.1, nodes));
        }
        node
    }

    fn bandwidth(&self, set: &[usize]) -> (u32, u32) {
        let pairs = subsets(set, 2)
            .into_iter()
            .map(|pair| self.topology.pair(pair[0], pair[1]).bandwidth());
        (pairs.clone().min().unwrap_or(0), pairs.sum())
    }

    fn nodes(&self, set: &[usize]) -> usize {
        let nodes: std::collections::BTreeSet<_> =
            set.iter().map(|gpu| self.topology.gpus()[*gpu].numa_node).collect();
        nodes.len()
    }

    fn place(
        &self,
        placer: Placer,
        mut free: Vec<usize>,
        size: usize,
        random: &mut Random,
    ) -> Vec<usize> {
        match placer {
            Placer::FirstFit => free[..size].to_vec(),
            Placer::PartitionSum => {
                random.shuffle(&mut free);
                partition_sum(self.topology, &free, size)
            }
            Placer::PartitionSumSorted => partition_sum(self.topology, &free, size),
            Placer::Ours => {
                let available: Vec<&str> = free.iter().map(|gpu| &*self.ids[*gpu]).collect();
                let size = i32::try_from(size).unwrap_or(i32::MAX);
                let answer = preferred(
                    &self.index,
                    &Request { available: &available, must_include: &[], size },
                );
                let index =
                    |id: &&str| self.ids.iter().position(|known| known == id).unwrap_or_default();
                answer.ids.iter().map(index).collect()
            }
        }
    }
}

/// One day with one placer. A job that finds too few free GPUs waits, and those behind it wait with
/// it.
fn run(node: &Node<'_>, placer: Placer, jobs: &[Job], day: u64) -> Tally {
    let mut random = Random(day + 1_000_000);
    let mut busy_until = vec![0_u32; node.ids.len()];
    let mut tally = Tally::default();
    let mut now = 0;
    for job in jobs {
        now = now.max(job.at);
        let free = loop {
            let free: Vec<usize> =
                (0..busy_until.len()).filter(|gpu| busy_until[*gpu] <= now).collect();
            if free.len() >= job.size {
                break free;
            }
            now += 1;
        };
        let set = node.place(placer, free, job.size, &mut random);
        assert_eq!(set.len(), job.size);
        set.iter().for_each(|gpu| busy_until[*gpu] = now + job.length);
        if let Some((worst, sum, nodes)) = node.possible.get(&job.size) {
            let got = node.bandwidth(&set);
            tally.jobs += 1;
            tally.best += u64::from(got == (*worst, *sum));
            tally.lost += u64::from(worst.saturating_sub(got.0));
            tally.possible += u64::from(*worst);
            tally.astray += u64::from(node.nodes(&set) > *nodes);
        }
    }
    tally
}

/// The best set of the cut of all free GPUs whose sum of pair scores is greatest.
fn partition_sum(topology: &Topology, free: &[usize], size: usize) -> Vec<usize> {
    let score = |set: &[usize]| -> u32 {
        subsets(set, 2).iter().map(|pair| pair_score(topology, pair[0], pair[1])).sum()
    };
    let mut cuts = Cuts { size, score: &score, known: BTreeMap::new() };
    let (_, sets) = cuts.best(free.to_vec(), free.len() % size);
    // Of equals the first, and never the short one.
    let mut best: Option<(u32, Vec<usize>)> = None;
    for set in sets.into_iter().filter(|set| set.len() == size) {
        let score = score(&set);
        if best.as_ref().is_none_or(|(most, _)| score > *most) {
            best = Some((score, set));
        }
    }
    best.map_or_else(|| free[..size].to_vec(), |(_, set)| set)
}

fn pair_score(topology: &Topology, a: usize, b: usize) -> u32 {
    let pair = topology.pair(a, b);
    let pcie = match pair.pcie {
        PcieLevel::Unknown => 0,
        PcieLevel::AcrossSystem => 10,
        PcieLevel::SameNode => 20,
        PcieLevel::HostBridge => 30,
        PcieLevel::MultipleSwitches => 40,
        PcieLevel::SingleSwitch => 50,
        PcieLevel::SameBoard => 60,
    };
    let NvLink::Direct(bundle) = pair.nvlink else { return pcie };
    pcie + 100 * bundle.links.min(18)
}

/// A sum of scores and the sets that make it.
type Cut = (u32, Vec<Vec<usize>>);

/// What is best for each rest of the GPUs, by how long the short set is that is still to come.
struct Cuts<'a> {
    size: usize,
    score: &'a dyn Fn(&[usize]) -> u32,
    known: BTreeMap<(Vec<usize>, usize), Cut>,
}

impl Cuts<'_> {
    fn best(&mut self, rest: Vec<usize>, short: usize) -> Cut {
        let Some((first, others)) = rest.split_first() else { return (0, Vec::new()) };
        if let Some(known) = self.known.get(&(rest.clone(), short)) {
            return known.clone();
        }
        let mut best: Option<Cut> = None;
        let lengths = if short > 0 { vec![self.size, short] } else { vec![self.size] };
        for length in lengths.into_iter().filter(|length| *length <= rest.len()) {
            for mates in subsets(others, length - 1) {
                let set = [&[*first], &mates[..]].concat();
                let left = others.iter().copied().filter(|gpu| !mates.contains(gpu)).collect();
                let (value, mut sets) =
                    self.best(left, if length == self.size { short } else { 0 });
                let value = value + (self.score)(&set);
                if best.as_ref().is_none_or(|(most, _)| value > *most) {
                    sets.insert(0, set);
                    best = Some((value, sets));
                }
            }
        }
        let best = best.unwrap_or_default();
        self.known.insert((rest, short), best.clone());
        best
    }
}

/// All sets of `size` of these, in order.
fn subsets(of: &[usize], size: usize) -> Vec<Vec<usize>> {
    if size == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (at, first) in of.iter().enumerate() {
        all.extend(
            subsets(&of[at + 1..], size - 1)
                .into_iter()
                .map(|rest| [&[*first], &rest[..]].concat()),
        );
    }
    all
}

/// splitmix64: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        let uniform = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        -mean * (1.0 - uniform).ln()
    }

    fn shuffle(&mut self, list: &mut [usize]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}
