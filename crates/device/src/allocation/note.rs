//! What was odd about a request or its answer: counted and logged, never an error.

/// One oddity of a request or its answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// The requested size is zero or less; the answer is empty.
    #[error("a preferred allocation of {0} devices was requested")]
    SizeNotPositive(i32),
    /// Ids that this resource does not have. They are answered only if they must be included or
    /// nothing else is left.
    #[error("{count} ids are not of this resource, the first is {first:?}")]
    UnknownIds {
        /// How many.
        count: usize,
        /// The first of them in alphabetical order.
        first: String,
    },
    /// Ids listed more than once in one list.
    #[error("{count} ids are listed more than once")]
    RepeatedIds {
        /// How many times too many.
        count: usize,
    },
    /// Ids that must be included but are not available. They are included.
    #[error("{count} ids must be included but are not available, the first is {first:?}")]
    MustIncludeUnavailable {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// More ids must be included than the size allows; the answer has `size` of them.
    #[error("{count} ids must be included in an allocation of {size}")]
    MustIncludeTooMany {
        /// How many must be included.
        count: usize,
        /// The requested size.
        size: usize,
    },
    /// Fewer ids are available than requested; the answer has all of them.
    #[error("{requested} devices were requested and {available} are available")]
    TooFew {
        /// The requested size.
        requested: usize,
        /// How many the answer has.
        available: usize,
    },
    /// `spread` had to put more than one device of the request on one GPU.
    #[error("on {gpus} GPUs the request gets more than one device")]
    SpreadDoubled {
        /// On how many GPUs.
        gpus: usize,
    },
    /// The search reached its limit (on a node with more than 16 GPUs); the answer is the best
    /// found so far.
    #[error("the search was cut short: the choice is good but may not be the best")]
    SearchCut,
    /// More whole GPUs than the search supports; they were chosen by index.
    #[error("too many GPUs to search: chosen by index")]
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
