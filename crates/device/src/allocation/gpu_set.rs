//! Sets of GPUs as bit masks: bit n is the GPU at position n.

/// Most GPUs of one node: the bits of a mask.
pub(super) const MOST_GPUS: usize = u64::BITS as usize;

/// A set of GPUs, each a bit by its position.
pub(super) type Mask = u64;

/// The positions in a mask, lowest first.
pub(super) fn bits(mask: Mask) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(mask), |mask| Some(mask & mask.wrapping_sub(1)))
        .take_while(|mask| *mask != 0)
        .map(|mask| mask.trailing_zeros() as usize)
}
