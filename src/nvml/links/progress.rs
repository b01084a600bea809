//! What a reading of the links has found so far, shared with the supervisor.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use device::health::NvmlError as CallError;
use device::names::Uuid;
use device::topology::NodeLinks;
use nvml_wrapper::error::NvmlError;
use tracing::warn;

use crate::nvml::session::{call_error, is_unsupported};

/// The links that are known. The reading thread has only a [`LinkUpdates`].
#[derive(Default)]
pub(super) struct LinkProgress(Arc<Mutex<Known>>);

/// Updates what is known, for as long as there is a [`LinkProgress`].
pub(super) struct LinkUpdates(Weak<Mutex<Known>>);

#[derive(Default)]
struct Known {
    links: NodeLinks,
    /// Errors that are logged already.
    logged: Vec<(Uuid, CallError)>,
}

impl LinkProgress {
    pub(super) fn links(&self) -> NodeLinks {
        lock(&self.0).links.clone()
    }

    pub(super) fn updates(&self) -> LinkUpdates {
        LinkUpdates(Arc::downgrade(&self.0))
    }
}

impl LinkUpdates {
    /// Changes the links; `None` if nobody wants them any more.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut NodeLinks) -> T) -> Option<T> {
        let known = self.0.upgrade()?;
        Some(change(&mut lock(&known).links))
    }

    /// Logs a failed call, each error of a GPU once; `None` if nobody wants the links any more.
    pub(super) fn failed(&self, gpu: &Uuid, call: &'static str, error: &NvmlError) -> Option<()> {
        let known = self.0.upgrade()?;
        if is_unsupported(error) {
            return Some(());
        }
        let logged = &mut lock(&known).logged;
        let failure = (gpu.clone(), call_error(call, error));
        if !logged.contains(&failure) {
            warn!(gpu.uuid = %gpu, error = %failure.1, "cannot read all links of this GPU: \
                placement uses those that are known");
            logged.push(failure);
        }
        Some(())
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
