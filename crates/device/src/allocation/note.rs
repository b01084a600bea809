//! What was odd about a request or its answer: counted and logged, never an error.

use std::fmt;

/// One oddity of a request or its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The requested size is zero or less; the answer is empty.
    SizeNotPositive(i32),
    /// Ids that this resource does not have. They are answered only if they must be included or
    /// nothing else is left.
    UnknownIds {
        /// How many.
        count: usize,
        /// The first of them in alphabetical order.
        first: String,
    },
    /// Ids listed more than once in one list.
    RepeatedIds {
        /// How many times too many.
        count: usize,
    },
    /// Ids that must be included but are not available. They are included.
    MustIncludeUnavailable {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// More ids must be included than the size allows; the answer has `size` of them.
    MustIncludeTooMany {
        /// How many must be included.
        count: usize,
        /// The requested size.
        size: usize,
    },
    /// Fewer ids are available than requested; the answer has all of them.
    TooFew {
        /// The requested size.
        requested: usize,
        /// How many the answer has.
        available: usize,
    },
    /// `spread` had to put more than one device of the request on one GPU.
    SpreadDoubled {
        /// On how many GPUs.
        gpus: usize,
    },
    /// The search reached its limit (on a node with more than 16 GPUs); the answer is the best
    /// found so far.
    SearchCut,
    /// More whole GPUs than the search supports; they were chosen by index.
    TooManyGpus,
}

impl Note {
    /// The value of the counter's `reason` label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::SizeNotPositive(_) => "size_not_positive",
            Self::UnknownIds { .. } => "unknown_ids",
            Self::RepeatedIds { .. } => "repeated_ids",
            Self::MustIncludeUnavailable { .. } => "must_include_unavailable",
            Self::MustIncludeTooMany { .. } => "must_include_too_many",
            Self::TooFew { .. } => "too_few",
            Self::SpreadDoubled { .. } => "spread_doubled",
            Self::SearchCut => "search_cut",
            Self::TooManyGpus => "too_many_gpus",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SizeNotPositive(size) => {
                write!(f, "a preferred allocation of {size} devices was requested")
            }
            Self::UnknownIds { count, first } => {
                write!(f, "{count} ids are not of this resource, the first is {first:?}")
            }
            Self::RepeatedIds { count } => write!(f, "{count} ids are listed more than once"),
            Self::MustIncludeUnavailable { count, first } => {
                write!(
                    f,
                    "{count} ids must be included but are not available, the first is {first:?}"
                )
            }
            Self::MustIncludeTooMany { count, size } => {
                write!(f, "{count} ids must be included in an allocation of {size}")
            }
            Self::TooFew { requested, available } => {
                write!(f, "{requested} devices were requested and {available} are available")
            }
            Self::SpreadDoubled { gpus } => {
                write!(f, "on {gpus} GPUs the request gets more than one device")
            }
            Self::SearchCut => {
                f.write_str("the search was cut short: the choice is good but may not be the best")
            }
            Self::TooManyGpus => f.write_str("too many GPUs to search: chosen by index"),
        }
    }
}
