//! Why a text is not a name, with the text quoted.

use std::fmt;

/// A text that is not the name it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a UUID as NVML gives it.
    #[error("{text} is not a device UUID: {why}")]
    Uuid {
        /// The text.
        text: QuotedText,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a device id as the plugin advertises it.
    #[error("{text} is not a device id: {why}")]
    DeviceId {
        /// The text.
        text: QuotedText,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a PCI bus id.
    #[error(
        "{0} is not a PCI bus id (domain:bus:device.function in hexadecimal, e.g. 0000:1b:00.0)"
    )]
    PciBusId(QuotedText),
    /// Not a name for an extended resource.
    #[error("{text} is not a resource name: {why}")]
    ResourceName {
        /// The text.
        text: QuotedText,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A text as an error shows it: quoted, escaped, and cut where it is too long to be a name. A gRPC
/// status is sent in a header, and one that is too long arrives as another error.
#[derive(Clone, PartialEq, Eq)]
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

impl fmt::Display for QuotedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for QuotedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
