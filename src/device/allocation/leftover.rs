//! What the GPUs that stay free are worth to those who come later: for jobs of 2, 4 and 8 GPUs, the bandwidth that
//! they would have if one size of job used up everything that is left. Worked out once for every free set there can be.

use super::machine::{Mask, bits};

/// The sizes of the jobs to come. Powers of two are what training asks for and what machines are built of; a size of 1
/// needs no link and 16 leaves nothing.
const SIZES: [u32; 3] = [2, 4, 8];

/// Most free sets that a table is made for. Interchangeable GPUs count by number, not by name, so this holds every
/// machine of up to 16 GPUs (2 to the 16th sets) and, far beyond that, those with NVSwitch or plain PCIe trees.
const MOST_STATES: usize = 1 << 16;

/// The value of every free set of a machine.
///
/// The key of a free set is a number in a mixed base with one digit for each class of interchangeable GPUs, so the key
/// of a set without some of its GPUs is a subtraction.
pub(super) struct Leftover {
    /// What each GPU adds to the key.
    weights: Vec<usize>,
    /// The value by key; empty if there would be too many.
    values: Vec<u32>,
}

impl Leftover {
    /// The table for a machine: the interchangeable GPUs of each GPU, and the bandwidths row by row.
    pub(super) fn new(twins: &[Mask], bandwidth: &[u32]) -> Self {
        let mut classes = twins.to_vec();
        classes.sort_unstable_by_key(|class| class.trailing_zeros());
        classes.dedup();
        let mut weights = vec![0; twins.len()];
        let mut states = 1_usize;
        for class in &classes {
            bits(*class).for_each(|gpu| weights[gpu] = states);
            states = states.saturating_mul(class.count_ones() as usize + 1);
        }
        if states > MOST_STATES {
            return Self { weights, values: Vec::new() };
        }
        let packing = Packing::new(&classes, &weights, bandwidth);
        let mut values = vec![0; states];
        for size in SIZES.into_iter().filter(|size| *size as usize <= twins.len()) {
            values.iter_mut().zip(packing.best(size, states)).for_each(|(value, more)| *value += more);
        }
        Self { weights, values }
    }

    /// What one GPU adds to the key of a set.
    pub(super) fn weight(&self, gpu: usize) -> usize {
        self.weights[gpu]
    }

    /// The value of a free set by its key; `None` if there is no table.
    pub(super) fn value(&self, key: usize) -> Option<u32> {
        self.values.get(key).copied()
    }
}

/// The value of a number of free GPUs on one NUMA node, by the same thought: how many of them stand in whole sets of
/// 2, 4 and 8.
pub(super) fn on_node(free: u32) -> u32 {
    SIZES.iter().map(|size| free / size * size).sum()
}

/// How free sets are cut into sets of one size.
struct Packing {
    /// How many GPUs each class has, and what one of them adds to the key.
    classes: Vec<(u32, usize)>,
    /// Bandwidths between classes, row by row; on the diagonal that inside the class.
    between: Vec<u32>,
}

/// One free set that is being cut, and the best cut so far.
struct Cut<'a> {
    size: u32,
    free: &'a [u32],
    key: usize,
    /// The values of all smaller keys.
    known: &'a [u32],
    best: u32,
    /// The classes of the GPUs taken into the set that is being built.
    taken: Vec<usize>,
}

impl Packing {
    fn new(classes: &[Mask], weights: &[usize], bandwidth: &[u32]) -> Self {
        let first = |class: &Mask| class.trailing_zeros() as usize;
        let between = |a: &Mask, b: &Mask| {
            // Inside a class, the first two stand for all; a class of one has no inside and is never asked.
            let second = if a == b { bits(*b).nth(1).unwrap_or(first(b)) } else { first(b) };
            bandwidth[first(a) * weights.len() + second]
        };
        Self {
            between: classes.iter().flat_map(|a| classes.iter().map(move |b| between(a, b))).collect(),
            classes: classes.iter().map(|class| (class.count_ones(), weights[first(class)])).collect(),
        }
    }

    /// For each key the most that sets of this size can be worth, each being its size times its worst bandwidth.
    fn best(&self, size: u32, states: usize) -> Vec<u32> {
        let mut known = Vec::with_capacity(states);
        known.push(0);
        let mut free = vec![0; self.classes.len()];
        for key in 1..states {
            let lowest = self.count_up(&mut free);
            let weight = self.classes[lowest].1;
            // Of the lowest GPU that is free: either it stays out of all sets, or it is in one.
            let taken = Vec::with_capacity(size as usize);
            let mut cut = Cut { size, free: &free, key, known: &known, best: known[key - weight], taken };
            self.grow(&mut cut, lowest, weight, u32::MAX);
            let best = cut.best;
            known.push(best);
        }
        known
    }

    /// The free set of the next key, and its lowest class that has any.
    fn count_up(&self, free: &mut [u32]) -> usize {
        for (digit, (most, _)) in free.iter_mut().zip(&self.classes) {
            if *digit < *most {
                *digit += 1;
                break;
            }
            *digit = 0;
        }
        free.iter().position(|count| *count > 0).unwrap_or(0)
    }

    /// Adds a GPU of a class to the set that is being built, and then all that can follow it.
    fn grow(&self, cut: &mut Cut<'_>, class: usize, used: usize, worst: u32) {
        cut.taken.push(class);
        if cut.taken.len() == cut.size as usize {
            cut.best = cut.best.max(cut.size * worst + cut.known[cut.key - used]);
        } else {
            let mut room = cut.free[class] as usize > cut.taken.iter().filter(|taken| **taken == class).count();
            for next in class..self.classes.len() {
                let row = &self.between[next * self.classes.len()..];
                let worst = cut.taken.iter().fold(worst, |worst, taken| worst.min(row[*taken]));
                // A smaller free set is never worth more, so what is left after this set is bounded by what is left
                // after its first GPU.
                let first = self.classes[cut.taken[0]].1;
                if room && cut.size * worst + cut.known[cut.key - first] > cut.best {
                    self.grow(cut, next, used + self.classes[next].1, worst);
                }
                room = cut.free.get(next + 1).is_some_and(|free| *free > 0);
            }
        }
        cut.taken.pop();
    }
}
