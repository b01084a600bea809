//! The residual value: what the GPUs that stay free are worth to later jobs. For jobs of 2, 4 and 8
//! GPUs it is the bandwidth that they would have if jobs of this size took all free GPUs. Computed
//! once for every possible free set.
//!
//! The sum of bandwidths of all free pairs would be simpler, and as good on nodes whose links are a
//! tree. On the hybrid cube mesh it does not see the islands: in `examples/placement.rs` 8.9 % of
//! the jobs were on more NUMA nodes than needed with it, and 5.2 % with this.

use super::gpu_set::{Mask, bits};

/// The sizes of later jobs: powers of two, as training jobs mostly have. A size of 1 needs no link,
/// and 16 leaves nothing free.
const SIZES: [u32; 3] = [2, 4, 8];

/// Most free sets for which values are computed. Of interchangeable GPUs only the number counts, so
/// this covers every node of up to 16 GPUs (2 to the 16th sets) and far larger ones with NVSwitch
/// or PCIe trees. Beyond it the search takes the sum of all free pairs.
const MOST_STATES: usize = 1 << 16;

/// The value of every free set of a node.
///
/// The key of a free set is a number in a mixed base with one digit for each class of
/// interchangeable GPUs, so the key of a set without some of its GPUs is a subtraction.
pub(super) struct ResidualValue {
    /// What each GPU adds to the key.
    weights: Vec<usize>,
    /// The value by key; empty if there would be too many.
    values: Vec<u32>,
}

impl ResidualValue {
    /// The values for a node, from the interchangeable GPUs of each GPU and the bandwidths row by
    /// row.
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
            return Self { weights: vec![0; twins.len()], values: Vec::new() };
        }
        let packing = Packing::new(&classes, &weights, bandwidth);
        let mut values = vec![0; states];
        for size in SIZES.into_iter().map(|size| size as usize).filter(|size| *size <= twins.len())
        {
            values
                .iter_mut()
                .zip(packing.best(size, states))
                .for_each(|(value, more)| *value += more);
        }
        Self { weights, values }
    }

    /// What one GPU adds to the key of a set.
    pub(super) fn weight(&self, gpu: usize) -> usize {
        self.weights[gpu]
    }

    /// The value of a free set by its key; `None` if the values are not computed.
    pub(super) fn value(&self, key: usize) -> Option<u32> {
        self.values.get(key).copied()
    }
}

/// The value of a number of free GPUs on one NUMA node, by the same rule: how many of them are in
/// complete sets of 2, 4 and 8.
pub(super) fn on_node(free: u32) -> u32 {
    SIZES.iter().map(|size| free / size * size).sum()
}

/// The classes of interchangeable GPUs, for dividing free sets into sets of one size.
struct Packing {
    /// How many GPUs each class has.
    most: Vec<usize>,
    /// What one GPU of each class adds to the key. The keys below it are those of all sets of the
    /// classes before.
    weights: Vec<usize>,
    /// Bandwidths between classes, row by row; on the diagonal that inside the class.
    between: Vec<u32>,
}

/// The free sets that have a certain number of GPUs of a class and any number of those before it.
struct Layer<'a> {
    packing: &'a Packing,
    class: usize,
    /// The values of all smaller keys.
    known: &'a [u32],
    /// The values of this layer, as far as they are known.
    now: &'a mut [u32],
    /// Where in `known` the free sets without the class's share of the current set begin.
    without: usize,
    /// The current set: how many it has of each class.
    set: Vec<usize>,
}

impl Packing {
    fn new(classes: &[Mask], weights: &[usize], bandwidth: &[u32]) -> Self {
        let first = |class: &Mask| class.trailing_zeros() as usize;
        let between = |a: &Mask, b: &Mask| {
            // Inside a class, the first two stand for all; a class of one has no such pair, and
            // its value is not used.
            let second = if a == b { bits(*b).nth(1).unwrap_or(first(b)) } else { first(b) };
            bandwidth[first(a) * weights.len() + second]
        };
        Self {
            most: classes.iter().map(|class| class.count_ones() as usize).collect(),
            weights: classes.iter().map(|class| weights[first(class)]).collect(),
            between: classes
                .iter()
                .flat_map(|a| classes.iter().map(move |b| between(a, b)))
                .collect(),
        }
    }

    fn between(&self, a: usize, b: usize) -> u32 {
        self.between[a * self.most.len() + b]
    }

    /// For each key the most that sets of this size can be worth, each being its size times its
    /// worst bandwidth.
    ///
    /// One GPU of the last class in a free set is either in no set, and the value is that of the
    /// free set without it; or it is in one, and the value is that of this set and of the rest.
    fn best(&self, size: usize, states: usize) -> Vec<u32> {
        let mut values = vec![0; states];
        for (class, weight) in self.weights.iter().enumerate() {
            for free in 1..=self.most[class] {
                let start = free * weight;
                values.copy_within(start - weight..start, start);
                let (known, now) = values.split_at_mut(start);
                let mut layer =
                    Layer { packing: self, class, known, now, without: 0, set: vec![0; class + 1] };
                for own in 1..=free.min(size) {
                    let worst = if own > 1 { self.between(class, class) } else { u32::MAX };
                    layer.set[class] = own;
                    layer.without = (free - own) * weight;
                    layer.grow(class, size - own, size, worst);
                }
            }
        }
        values
    }
}

impl Layer<'_> {
    /// Completes the set from the classes before this one, in every way.
    fn grow(&mut self, before: usize, missing: usize, size: usize, worst: u32) {
        if missing == 0 {
            let lowest = self.set.iter().position(|count| *count > 0).unwrap_or(0);
            let with = self.set[..self.class]
                .iter()
                .zip(&self.packing.weights)
                .map(|(n, weight)| n * weight)
                .sum();
            return self.raise(self.class, lowest, with, self.without, size as u32 * worst);
        }
        for class in (0..before).rev() {
            let others = (class + 1..=self.class).filter(|other| self.set[*other] > 0);
            let mut worst =
                others.fold(worst, |worst, other| worst.min(self.packing.between(class, other)));
            for count in 1..=missing.min(self.packing.most[class]) {
                if count > 1 {
                    worst = worst.min(self.packing.between(class, class));
                }
                self.set[class] = count;
                self.grow(class, missing - count, size, worst);
            }
            self.set[class] = 0;
        }
    }

    /// Raises the value of every free set that contains the current set: with any GPUs of the
    /// classes before `class` in addition.
    fn raise(&mut self, class: usize, lowest: usize, with: usize, without: usize, value: u32) {
        let weight = self.packing.weights[class];
        if class == lowest {
            // The set has none of the classes before, so the remaining keys are consecutive.
            let now = &mut self.now[with..with + weight];
            for (now, known) in now.iter_mut().zip(&self.known[without..]) {
                *now = (*now).max(value + known);
            }
            return;
        }
        let step = self.packing.weights[class - 1];
        for more in 0..=self.packing.most[class - 1] - self.set[class - 1] {
            self.raise(class - 1, lowest, with + more * step, without + more * step, value);
        }
    }
}
