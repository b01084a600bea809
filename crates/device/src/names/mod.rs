//! Names that come from outside: UUIDs, device ids, PCI bus ids and resource names. A value of one
//! of these types is well formed; parsing is the only way to get one from text.

mod device_id;
mod pci;
mod resource;

pub(crate) use device_id::split;
pub use device_id::{DeviceId, Uuid};
pub use pci::PciBusId;
pub use resource::ResourceName;

/// A text that is not the name it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} {problem}")]
pub struct NameError {
    text: QuotedText,
    /// What is wrong with it: "is not a device id: ...".
    pub(crate) problem: String,
}

impl NameError {
    fn new(text: &str, problem: impl Into<String>) -> Self {
        Self { text: QuotedText::new(text), problem: problem.into() }
    }
}

/// A text as an error shows it: quoted, escaped, and cut where it is too long to be a name. A gRPC
/// status is sent in a header, and one that is too long arrives as another error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QuotedText(String);

impl QuotedText {
    /// Most characters that are shown.
    const SHOWN: usize = 80;

    /// The text, cut after 80 characters.
    #[must_use]
    pub fn new(text: &str) -> Self {
        match text.char_indices().nth(Self::SHOWN) {
            None => Self(format!("{text:?}")),
            Some((end, _)) => Self(format!("{:?}… ({} bytes)", &text[..end], text.len())),
        }
    }
}
