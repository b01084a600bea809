//! The search for the best set of whole GPUs: branch and bound over all sets.
//!
//! Three things keep it short. It starts from greedy sets, and prunes a partial set whose worst
//! pair is worse than the best found, or whose sum can no longer reach it: the bound is what the
//! GPUs with the most bandwidth would add if each had its best links to the others. Of
//! interchangeable GPUs only the lowest free one is tried. And the worst pair and the sum are
//! updated with each GPU, not computed for each set.

use std::cmp::Reverse;

use super::bandwidth::BandwidthMatrix;
use super::gpu_set::{MOST_GPUS, Mask, bits};
use super::residual_value::ResidualValue;
use super::score::{LinkQuality, Locality, Score};

/// Most sets visited, partial ones included. 16 GPUs have fewer subsets than this, so up to there
/// the answer is exact; on larger nodes it is exact if the search ends earlier, else at least as
/// good as every greedy set.
const MOST_STEPS: u32 = 1 << 16;

/// The best `size` GPUs of `free`, among them all of `must`, which are free too, and whether they
/// are known to be the best.
///
/// `size` is at least the number of `must` and at most that of `free`.
pub(super) fn best(matrix: &BandwidthMatrix, free: Mask, must: Mask, size: usize) -> (Mask, bool) {
    let mut search = Search::new(matrix, free, must, size);
    let none = Partial { chosen: 0, count: 0, worst: u32::MAX, sum: 0, weight: 0 };
    let start = bits(must).fold(none, |set, gpu| search.with(set, gpu));
    search.greedy(start);
    search.descend(start, 0);
    let chosen = search.best.map_or(must, |(_, chosen)| chosen);
    (chosen, search.steps < MOST_STEPS)
}

/// A set that is being built.
#[derive(Clone, Copy)]
struct Partial {
    chosen: Mask,
    /// How many are chosen, which is also its level in [`Search::reach`].
    count: usize,
    worst: u32,
    sum: u32,
    /// What the chosen subtract from the key of the free set.
    weight: usize,
}

/// What a GPU would add to a set: its worst bandwidth to those in it, and the sum.
#[derive(Clone, Copy)]
struct Reach {
    worst: u32,
    sum: u32,
}

struct Search<'a> {
    matrix: &'a BandwidthMatrix,
    residual: &'a ResidualValue,
    free: Mask,
    /// Free, and not among those that must be included.
    open: Mask,
    size: usize,
    /// Key of the whole free set.
    key: usize,
    /// Each GPU's sum of bandwidths to all free ones, for nodes without residual values.
    degree: Vec<u32>,
    /// For each GPU its nearest lower twin among the open, which is tried first.
    before: Vec<Mask>,
    /// One row for each level of a partial set.
    reach: Vec<Reach>,
    /// One row for each GPU: the sums of its greatest bandwidths to free ones, by count.
    greatest: Vec<u32>,
    best: Option<(Score, Mask)>,
    steps: u32,
}

impl<'a> Search<'a> {
    fn new(matrix: &'a BandwidthMatrix, free: Mask, must: Mask, size: usize) -> Self {
        let open = free & !must;
        let residual = matrix.residual();
        let lower = |gpu: usize| matrix.twins[gpu] & open & ((1 << gpu) - 1);
        Self {
            matrix,
            residual,
            free,
            open,
            size,
            key: bits(free).map(|gpu| residual.weight(gpu)).sum(),
            degree: (0..matrix.count())
                .map(|gpu| bits(free).map(|peer| matrix.row(gpu)[peer]).sum())
                .collect(),
            before: (0..matrix.count())
                .map(|gpu| lower(gpu).checked_ilog2().map_or(0, |last| 1 << last))
                .collect(),
            reach: vec![Reach { worst: u32::MAX, sum: 0 }; matrix.count() * (size + 1)],
            greatest: greatest(matrix, free, size),
            best: None,
            steps: 0,
        }
    }

    /// A set with one GPU more.
    fn with(&mut self, set: Partial, gpu: usize) -> Partial {
        let width = self.matrix.count();
        let (done, next) = self.reach.split_at_mut((set.count + 1) * width);
        for ((next, from), bandwidth) in
            next.iter_mut().zip(&done[set.count * width..]).zip(self.matrix.row(gpu))
        {
            *next = Reach { worst: from.worst.min(*bandwidth), sum: from.sum + bandwidth };
        }
        self.grown(set, gpu)
    }

    /// The same without the reach of the new set, for one that is complete.
    fn grown(&self, set: Partial, gpu: usize) -> Partial {
        let reach = self.reach(set, gpu);
        Partial {
            chosen: set.chosen | 1 << gpu,
            count: set.count + 1,
            worst: set.worst.min(reach.worst),
            sum: set.sum + reach.sum,
            weight: set.weight + self.residual.weight(gpu),
        }
    }

    fn reach(&self, set: Partial, gpu: usize) -> Reach {
        self.reach[set.count * self.matrix.count() + gpu]
    }

    /// Considers sets that are likely to be good, as a bound for the rest: from each GPU, or from
    /// those that must be included, always with the neighbour that adds most.
    fn greedy(&mut self, start: Partial) {
        if start.count > 0 || self.size < 2 {
            return self.grow(start);
        }
        for seed in bits(self.open).filter(|gpu| self.before[*gpu] == 0).collect::<Vec<_>>() {
            let set = self.with(start, seed);
            self.grow(set);
        }
    }

    /// Adds the neighbour that adds most until the set is complete.
    fn grow(&mut self, mut set: Partial) {
        while set.count < self.size {
            let value = |gpu: &usize| {
                let reach = self.reach(set, *gpu);
                (reach.worst, reach.sum, Reverse(*gpu))
            };
            let Some(next) = bits(self.open & !set.chosen).max_by_key(value) else { return };
            set = self.with(set, next);
        }
        self.consider(set);
    }

    /// Visits every set that adds GPUs from this position on.
    fn descend(&mut self, set: Partial, from: usize) {
        if set.count == self.size {
            return self.consider(set);
        }
        let last = set.count + 1 == self.size;
        let mut rest = self.promising(set, from);
        let more = self.most_after(set, rest);
        while set.count + rest.count_ones() as usize >= self.size && rest != 0 {
            let gpu = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let twin_waits = self.before[gpu] & !set.chosen != 0;
            if twin_waits || self.hopeless(set, gpu, more) {
                continue;
            }
            if self.steps >= MOST_STEPS {
                return;
            }
            self.steps += 1;
            if last {
                self.consider(self.grown(set, gpu));
            } else {
                let next = self.with(set, gpu);
                self.descend(next, gpu + 1);
            }
        }
    }

    /// The open GPUs from this position on that keep the worst pair as good as that of the best
    /// set.
    fn promising(&self, set: Partial, from: usize) -> Mask {
        let least = self.best.map_or(0, |(best, _)| best.links.worst);
        let fits = |gpu: &usize| self.reach(set, *gpu).worst >= least;
        let open = self.open & Mask::MAX.checked_shl(from as u32).unwrap_or(0);
        bits(open).filter(fits).fold(0, |mask, gpu| mask | 1 << gpu)
    }

    /// Twice the most that a GPU can add to the sum of a complete set: its links to the chosen in
    /// full, and half of those to the other missing ones, since each pair has two halves.
    fn most(&self, set: Partial, gpu: usize) -> u32 {
        2 * self.reach(set, gpu).sum + self.greatest[gpu * self.size + self.size - set.count - 1]
    }

    /// Twice the most that all GPUs after the next one can add to the sum.
    fn most_after(&self, set: Partial, rest: Mask) -> u32 {
        let missing = self.size - set.count - 1;
        if missing == 0 {
            return 0;
        }
        greatest_first(bits(rest).map(|gpu| self.most(set, gpu))).take(missing).sum()
    }

    /// Whether no set with this GPU can be as good as the best.
    fn hopeless(&self, set: Partial, gpu: usize, more: u32) -> bool {
        let Some((best, _)) = &self.best else { return false };
        let worst = set.worst.min(self.reach(set, gpu).worst);
        let sum = 2 * set.sum + self.most(set, gpu) + more;
        worst < best.links.worst || (worst == best.links.worst && sum < 2 * best.links.sum)
    }

    /// Takes a complete set if it is better than the best.
    fn consider(&mut self, set: Partial) {
        let left =
            self.residual.value(self.key - set.weight).unwrap_or_else(|| self.pairs_left(set));
        let links = LinkQuality { worst: set.worst, sum: set.sum, left };
        if self.best.is_some_and(|(best, _)| links < best.links) {
            return;
        }
        let score = Score {
            links,
            locality: Locality::of(self.matrix, set.chosen, self.free & !set.chosen),
        };
        if self.best.is_none_or(|(best, _)| score > best) {
            self.best = Some((score, set.chosen));
        }
    }

    /// What stands for the residual value where there is none: the sum of bandwidths of all pairs
    /// that stay free.
    fn pairs_left(&self, set: Partial) -> u32 {
        let all: u64 = bits(self.free).map(|gpu| u64::from(self.degree[gpu])).sum();
        let gone: u64 = bits(set.chosen).map(|gpu| u64::from(self.degree[gpu])).sum();
        // Each pair is in the degrees of both of its GPUs, so the pairs inside the set were
        // subtracted twice.
        u32::try_from((all / 2 + u64::from(set.sum)).saturating_sub(gone)).unwrap_or(u32::MAX)
    }
}

/// For each GPU the sums of its greatest bandwidths to free ones: of none, of one, and so on up to
/// one less than `size`.
fn greatest(matrix: &BandwidthMatrix, free: Mask, size: usize) -> Vec<u32> {
    let mut sums = vec![0; matrix.count() * size];
    for gpu in bits(free) {
        let peers = bits(free & !(1 << gpu)).map(|peer| matrix.row(gpu)[peer]);
        for (number, bandwidth) in (1..size).zip(greatest_first(peers)) {
            sums[gpu * size + number] = sums[gpu * size + number - 1] + bandwidth;
        }
    }
    sums
}

/// Up to one number for each GPU in descending order, without an allocation.
fn greatest_first(numbers: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
    let (mut sorted, mut count) = ([0; MOST_GPUS], 0);
    for (place, number) in sorted.iter_mut().zip(numbers) {
        *place = number;
        count += 1;
    }
    sorted[..count].sort_unstable_by(|a, b| b.cmp(a));
    sorted.into_iter().take(count)
}
