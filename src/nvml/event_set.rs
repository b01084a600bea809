//! A set of NVML's events, and the GPUs that are registered in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use device::health::{EventType, NvmlError as CallError, ReturnCode};
use device::names::Uuid;

use super::current_call::{mark_call, mark_wait};
use super::raw::{self, RawEvent, RawEventSet};
use super::session::{NOT_FOUND, Session, call_error, is_unsupported};

/// Whether a GPU is registered for events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Registration {
    /// It is.
    Registered,
    /// It supports none of the wanted events.
    Unsupported,
    /// It is not, and is to be tried again.
    Failed(CallError),
}

/// A set of events, and the GPUs that are registered in it.
pub(super) struct EventSet {
    set: RawEventSet,
    pub(super) types: BTreeSet<EventType>,
    gpus: Mutex<BTreeMap<Uuid, Registration>>,
}

impl EventSet {
    pub(super) fn create(
        session: &Arc<Session>,
        types: &BTreeSet<EventType>,
    ) -> Result<Self, CallError> {
        const CALL: &str = "nvmlEventSetCreate";
        mark_call(CALL);
        let set = RawEventSet::create(session.clone()).map_err(|error| call_error(CALL, &error))?;
        Ok(Self { set, types: types.clone(), gpus: Mutex::default() })
    }

    /// Registers a GPU for the events that it supports. `Err`: the set is undefined now (nvml.h,
    /// nvmlDeviceRegisterEvents) and has to be made again.
    pub(super) fn add(&self, session: &Session, uuid: &Uuid) -> Result<(), CallError> {
        let (registration, result) = match self.register(session, uuid) {
            Ok(registration) => (registration, Ok(())),
            Err(error) if error.code == ReturnCode::UNKNOWN => {
                (Registration::Failed(error.clone()), Err(error))
            }
            Err(error) => (Registration::Failed(error), Ok(())),
        };
        self.gpus().insert(uuid.clone(), registration);
        result
    }

    fn register(&self, session: &Session, uuid: &Uuid) -> Result<Registration, CallError> {
        const TYPES: &str = "nvmlDeviceGetSupportedEventTypes";
        const REGISTER: &str = "nvmlDeviceRegisterEvents";
        let not_found = CallError { call: REGISTER, code: NOT_FOUND };
        let device = session.device(uuid).ok_or(not_found)?;
        let wanted = self.types.iter().fold(0, |mask, event| mask | event.bit());
        mark_call(TYPES);
        let supported = match raw::supported_event_types(session.nvml(), &device) {
            Ok(types) => types & wanted,
            Err(error) if is_unsupported(&error) => 0,
            // Told apart from the same answer of the other call, after which the set is undefined.
            Err(error) => return Ok(Registration::Failed(call_error(TYPES, &error))),
        };
        if supported == 0 {
            return Ok(Registration::Unsupported);
        }
        mark_call(REGISTER);
        match self.set.register(&device, supported) {
            Ok(()) => Ok(Registration::Registered),
            Err(error) => Err(call_error(REGISTER, &error)),
        }
    }

    /// Waits for the next event; `None` if there is none in time.
    pub(super) fn wait(&self, at_most: Duration) -> Result<Option<RawEvent>, CallError> {
        const CALL: &str = "nvmlEventSetWait_v2";
        mark_wait(CALL, at_most);
        self.set.wait(at_most).map_err(|error| call_error(CALL, &error))
    }

    pub(super) fn gpus(&self) -> MutexGuard<'_, BTreeMap<Uuid, Registration>> {
        self.gpus.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
