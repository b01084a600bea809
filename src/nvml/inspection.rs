//! What of a GPU matters to a person and not to its health: the doctor asks for it.

use device::health::NvmlError as CallError;
use device::names::Uuid;

use super::current_call::mark_call;
use super::raw;
use super::session::Session;
use super::shared_session::SharedSession;

/// What was found. What the driver or the GPU does not have is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Whether MIG mode is on after the next reset of the GPU, where that differs from now.
    pub mig_pending: Option<bool>,
    /// Whether it is licensed, if it is a virtual GPU.
    pub licensed: Option<bool>,
    /// Whether the GPUs of the node accept work, where confidential computing is on.
    pub accepts_work: Option<bool>,
}

/// Inspects a GPU that was identified in this session.
pub(super) fn inspect(shared: &SharedSession, gpu: &Uuid) -> Result<Inspection, CallError> {
    let session = shared.get()?.session;
    Ok(inspect_in(&session, gpu))
}

fn inspect_in(session: &Session, gpu: &Uuid) -> Inspection {
    let Some(device) = session.device(gpu) else { return Inspection::default() };
    let nvml = session.nvml();
    mark_call("nvmlDeviceGetMigMode");
    let mig = device.mig_mode().ok().filter(|mode| mode.current != mode.pending);
    mark_call("nvmlDeviceGetGridLicensableFeatures_v4");
    let licensed = raw::vgpu_license(nvml, &device).ok().flatten();
    mark_call("nvmlSystemGetConfComputeState");
    let accepts_work = raw::confidential_computing(nvml).ok().flatten();
    Inspection { mig_pending: mig.map(|mode| mode.pending == 1), licensed, accepts_work }
}
