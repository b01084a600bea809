//! Xids, the numbers under which the driver reports errors: NVIDIA's Xid catalogue, and the class
//! of each, which is its meaning for the GPU.

mod catalogue;
mod class;

use std::fmt;

pub use catalogue::NvidiaAction;
use catalogue::catalogue;
pub use class::XidClass;

/// The number of an error that the driver reports: `eventData` of an NVML event of type
/// `nvmlEventTypeXidCriticalError`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u32);

impl Xid {
    /// The class of the number; `Suspect` if it is not in the catalogue.
    #[must_use]
    pub fn class(self) -> XidClass {
        catalogue(self.0).0
    }

    /// What NVIDIA's catalogue recommends.
    #[must_use]
    pub fn nvidia_action(self) -> NvidiaAction {
        catalogue(self.0).1
    }

    /// What happened, in a few words.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        catalogue(self.0).2
    }

    /// The numbers of the catalogue in ascending order.
    pub fn known() -> impl Iterator<Item = Self> {
        let unknown = Self(u32::MAX).meaning();
        (0..CATALOGUE_END).map(Self).filter(move |xid| xid.meaning() != unknown)
    }
}

/// Above every number of the catalogue.
const CATALOGUE_END: u32 = 1000;

impl TryFrom<u64> for Xid {
    type Error = std::num::TryFromIntError;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        u32::try_from(number).map(Self)
    }
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Xid {}", self.0)
    }
}
