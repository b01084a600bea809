//! What each class of Xids does where nothing is configured.

use super::rules::XidAction;
use super::xid::XidClass;

/// What an Xid does to the health of its GPU where nothing is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum XidEffect {
    /// It is counted.
    Counted,
    /// It is counted and logged; the GPU stays Healthy.
    Logged,
    /// As `Logged`, and the GPU is degraded.
    Degraded,
    /// The GPU is Unhealthy if the driver asks for a recovery action.
    RecoveryAction,
    /// The GPU is Unhealthy at once.
    Unhealthy,
}

impl XidClass {
    /// What an Xid of the class does where nothing is configured, on a driver with or without a
    /// recovery action.
    #[must_use]
    pub fn effect(self, has_recovery_action: bool) -> XidEffect {
        match XidAction::of_class(self) {
            XidAction::Ignore => XidEffect::Counted,
            XidAction::Event if matches!(self, Self::Pending | Self::Contained) => {
                XidEffect::Degraded
            }
            XidAction::Event => XidEffect::Logged,
            XidAction::RecoveryAction if has_recovery_action => XidEffect::RecoveryAction,
            XidAction::RecoveryAction if self.is_presumed_fatal() => XidEffect::Unhealthy,
            XidAction::RecoveryAction => XidEffect::Logged,
            XidAction::Unhealthy => XidEffect::Unhealthy,
        }
    }
}
