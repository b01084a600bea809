//! What was odd about a request or its answer: for a counter and a log line, never an error.

use std::fmt;

/// One thing worth a count and a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The size asked for is zero or less; the answer is empty.
    SizeNotPositive(i32),
    /// Ids that this resource does not have. They are used only where nothing else is left, or if
    /// they must be.
    UnknownIds {
        /// How many.
        count: usize,
        /// The first of them in alphabetical order.
        first: String,
    },
    /// Ids given more than once in one list.
    RepeatedIds {
        /// How many times too often.
        count: usize,
    },
    /// Ids that must be included but are not among those available. They are included.
    MustIncludeUnavailable {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// More ids must be included than the size allows; only so many were answered.
    MustIncludeTooMany {
        /// How many must be.
        count: usize,
        /// The size asked for.
        size: usize,
    },
    /// Fewer ids were available than asked for; all of them were answered.
    TooFew {
        /// The size asked for.
        asked: usize,
        /// How many were answered.
        answered: usize,
    },
    /// `spread` had to put more than one device of the request on one GPU.
    SpreadDoubled {
        /// On how many GPUs.
        gpus: usize,
    },
    /// The search ended at its bound (a machine with more than 16 GPUs); the answer is the best
    /// found so far.
    SearchCut,
    /// More whole GPUs than the search can hold; they were answered by index.
    TooManyGpus,
}

impl Note {
    /// One word for it, for the label of a counter.
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
                write!(f, "a preferred allocation of {size} devices was asked for")
            }
            Self::UnknownIds { count, first } => {
                write!(f, "{count} ids are not of this resource, the first is {first:?}")
            }
            Self::RepeatedIds { count } => write!(f, "{count} ids were given more than once"),
            Self::MustIncludeUnavailable { count, first } => {
                write!(
                    f,
                    "{count} ids must be included but are not available, the first is {first:?}"
                )
            }
            Self::MustIncludeTooMany { count, size } => {
                write!(f, "{count} ids must be included in an allocation of {size}")
            }
            Self::TooFew { asked, answered } => {
                write!(f, "{asked} devices were asked for and {answered} are available")
            }
            Self::SpreadDoubled { gpus } => {
                write!(f, "{gpus} GPUs serve the request with more than one device each")
            }
            Self::SearchCut => {
                f.write_str("the search was cut short: the choice is good but may not be the best")
            }
            Self::TooManyGpus => f.write_str("too many GPUs to search: chosen by index"),
        }
    }
}
