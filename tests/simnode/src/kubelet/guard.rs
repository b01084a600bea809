//! The guard at the end of a test: what a plugin did against the contract fails it, whether or not
//! the test has asked.

use std::sync::PoisonError;
use std::thread;

use super::{Kubelet, Violation, ViolationKind};

impl Kubelet {
    /// The test provokes violations of this kind: they do not fail it.
    pub fn forgive(&self, kind: ViolationKind) {
        self.forgiven.lock().unwrap_or_else(PoisonError::into_inner).insert(kind);
    }

    fn unforgiven(&self) -> Vec<Violation> {
        let forgiven = self.forgiven.lock().unwrap_or_else(PoisonError::into_inner);
        let violations = self.violations().into_iter();
        violations.filter(|violation| !forgiven.contains(&violation.kind)).collect()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        if !self.shared.config().guarded || thread::panicking() {
            return;
        }
        let violations = self.unforgiven();
        assert!(violations.is_empty(), "against the contract: {violations:#?}");
    }
}
