//! How the GPUs are linked, read once for each set of GPUs and again once in a while, on a thread
//! that ends with the reading: nothing waits for it, neither the first list nor the next
//! enumeration.
//!
//! What cannot be read is left out and said once: it lowers the detail and is no failure. A call
//! that hangs costs the links of its GPU and of those after it; what was read before is used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use device::health::NvmlError as CallError;
use device::inventory::InventoryEvent;
use device::names::Uuid;
use device::topology::{NodeLinks, NvLinkVersion, ObservedLink, PcieLevel, Remote};
use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::TopologyLevel;
use nvml_wrapper::error::NvmlError;
use tokio::sync::mpsc;
use tracing::warn;

use super::raw;
use super::session::{Session, call_error, is_unsupported};
use super::telemetry::NvmlTelemetry;
use super::{Clock, TimedObservation};

/// Pause between two readings of the same GPUs: links go down and come back while a node is in use.
const AGAIN: Duration = Duration::from_secs(5 * 60);
/// How long a reading may take until what it has so far is used. The largest machine takes some
/// hundredths of a second.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most NVLinks that are asked for, twice as many as any GPU has (NVML_NVLINK_MAX_LINKS is 18). A
/// GPU says itself where its links end.
const MOST_LINKS: u32 = 36;

/// What the thread has read, and what was said about it.
#[derive(Default)]
struct Desk {
    links: NodeLinks,
    said: Vec<(Uuid, CallError)>,
}

/// One reading.
struct Reading {
    thread: JoinHandle<()>,
    began: Instant,
    gpus: BTreeMap<u32, Uuid>,
    /// Whether a part of it was passed on because it did not end.
    overdue: bool,
}

/// The reader of the links of one NVML session.
#[derive(Default)]
pub(super) struct Reader {
    desk: Arc<Mutex<Desk>>,
    last: Option<Reading>,
}

impl Reader {
    /// Has the links of these GPUs read, unless that was done a short while ago or is going on. It
    /// never waits.
    pub(super) fn see(
        &mut self,
        session: &Arc<Session>,
        gpus: &BTreeMap<u32, Uuid>,
        clock: Clock,
        observe: &mpsc::Sender<Vec<TimedObservation>>,
    ) {
        if let Some(last) = &mut self.last {
            let age = last.began.elapsed();
            if !last.thread.is_finished() {
                if age > PATIENCE && !last.overdue {
                    last.overdue = true;
                    warn!(
                        "NVML hangs in a question about the links between GPUs: what is known so \
                            far is used"
                    );
                    let links = lock(&self.desk).links.clone();
                    // A full queue or a reader that is gone: the next reading is as good.
                    let _ = observe.try_send(vec![TimedObservation {
                        at: clock.now(),
                        observation: InventoryEvent::Links(links),
                    }]);
                }
                return;
            }
            if last.gpus == *gpus && age < AGAIN {
                return;
            }
        }
        let body = {
            let (session, gpus, observe) = (session.clone(), gpus.clone(), observe.clone());
            let (desk, telemetry) = (Arc::downgrade(&self.desk), NvmlTelemetry::of_thread());
            move || {
                telemetry.bind_to_thread();
                let at = clock.now();
                if let Some(links) = read(&session, &gpus, &desk) {
                    let _ = observe.blocking_send(vec![TimedObservation {
                        at,
                        observation: Observation::Links(links),
                    }]);
                }
            }
        };
        match thread::Builder::new().name("nvml-links".to_owned()).spawn(body) {
            Ok(thread) => {
                let gpus = gpus.clone();
                self.last = Some(Reading { thread, began: Instant::now(), gpus, overdue: false });
            }
            Err(error) => warn!(%error, "cannot start a thread to read the links between GPUs"),
        }
    }
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the links, first PCIe and then each GPU's NVLinks. `None` if nobody wants them any more.
fn read(
    session: &Session,
    gpus: &BTreeMap<u32, Uuid>,
    desk: &Weak<Mutex<Desk>>,
) -> Option<NodeLinks> {
    let nvml = session.nvml();
    // A GPU without a handle is reported by the enumeration.
    let devices: Vec<(&Uuid, Device<'_>)> = gpus
        .values()
        .filter_map(|uuid| Some((uuid, nvml.device_by_uuid(uuid.as_str()).ok()?)))
        .collect();
    let mut ancestors = BTreeMap::new();
    for (at, (a, device)) in devices.iter().enumerate() {
        for (b, other) in &devices[at + 1..] {
            match nvml.topology_common_ancestor(device, other) {
                Ok(level) => {
                    ancestors.insert(((*a).clone(), (*b).clone()), pcie_level(level));
                }
                Err(error) => say(desk, a, "nvmlDeviceGetTopologyCommonAncestor", &error)?,
            }
        }
    }
    lock(&*desk.upgrade()?).links.ancestors = ancestors;
    for (uuid, device) in &devices {
        let nvlinks = nvlinks(session, uuid, device, desk)?;
        let desk = desk.upgrade()?;
        let known = &mut lock(&desk).links.nvlinks;
        match nvlinks {
            Some(nvlinks) => known.insert((*uuid).clone(), nvlinks),
            None => known.remove(*uuid),
        };
    }
    let desk = desk.upgrade()?;
    let mut desk = lock(&desk);
    desk.links.nvlinks.retain(|uuid, _| gpus.values().any(|gpu| gpu == uuid));
    Some(desk.links.clone())
}

/// The NVLinks of a GPU; inside, `None` if they cannot be read.
fn nvlinks(
    session: &Session,
    uuid: &Uuid,
    device: &Device<'_>,
    desk: &Weak<Mutex<Desk>>,
) -> Option<Option<Vec<ObservedLink>>> {
    let mut links = Vec::new();
    for number in 0..MOST_LINKS {
        let link = device.link_wrapper_for(number);
        match link.is_active() {
            Ok(true) => {}
            Ok(false) => {
                links.push(ObservedLink { remote: Remote::Unknown, version: None, active: false });
                continue;
            }
            // The GPU has no NVLink, or none with this number.
            Err(NvmlError::InvalidArg) => break,
            Err(error) if is_unsupported(&error) => break,
            Err(error) => {
                say(desk, uuid, "nvmlDeviceGetNvLinkState", &error)?;
                return Some(None);
            }
        }
        let version = match link.version() {
            Ok(code) => NvLinkVersion::from_nvml(code),
            Err(error) => {
                say(desk, uuid, "nvmlDeviceGetNvLinkVersion", &error)?;
                None
            }
        };
        let remote = match raw::remote_device_type(session, device, number) {
            Ok(raw::NVLINK_TO_SWITCH) => Remote::Switch,
            // It leads to the CPU, as on POWER9: no way to another GPU.
            Ok(raw::NVLINK_TO_CPU) => continue,
            // Whether the type says GPU or is not known, the bus id tells whose it is.
            _ => match link.remote_pci_info() {
                Ok(pci) => pci.bus_id.parse().map_or(Remote::Unknown, Remote::Gpu),
                Err(error) => {
                    say(desk, uuid, "nvmlDeviceGetNvLinkRemotePciInfo_v2", &error)?;
                    Remote::Unknown
                }
            },
        };
        links.push(ObservedLink { remote, version, active: true });
    }
    Some(Some(links))
}

/// Says once that a call fails. `None` if nobody wants the links any more.
fn say(desk: &Weak<Mutex<Desk>>, gpu: &Uuid, call: &'static str, error: &NvmlError) -> Option<()> {
    let desk = desk.upgrade()?;
    if !is_unsupported(error) {
        let said = &mut lock(&desk).said;
        let words = (gpu.clone(), call_error(call, error));
        if !said.contains(&words) {
            warn!(gpu.uuid = %gpu, error = %words.1, "cannot learn all about the links of this \
                GPU: it is placed by what is known");
            said.push(words);
        }
    }
    Some(())
}

fn pcie_level(level: TopologyLevel) -> PcieLevel {
    match level {
        TopologyLevel::Internal => PcieLevel::SameBoard,
        TopologyLevel::Single => PcieLevel::SingleSwitch,
        TopologyLevel::Multiple => PcieLevel::MultipleSwitches,
        TopologyLevel::HostBridge => PcieLevel::HostBridge,
        TopologyLevel::Node => PcieLevel::SameNode,
        TopologyLevel::System => PcieLevel::AcrossSystem,
    }
}
