//! What the driver says: NVML, each GPU, what the plugin would make of them, and the device nodes.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use device::Device;
use device::health::{
    Cause, GpuPart, HealthNotice, Moment, NodeHealth, NodeObservation, Observation as OfGpu,
    Reading,
};
use device::injection::DeviceIdStrategy;
use device::inventory::{EnumerationEntry, Inventory, InventoryEvent};
use device::names::Uuid;

use crate::config::Config;
use crate::config::translate;
use crate::doctor::facts::{
    DeviceNode, DriverAnswer, GpuFacts, NvmlProblem, OfferedResource, OpenResult,
};
use crate::host::quarantine_dir;
use crate::host::state_file::StateFile;
use crate::nvml::survey::{OpenedNvml, SurveyedGpu};
use crate::nvml::{self, NvmlOpenError};

/// Opens without waiting, and without ever becoming the controlling terminal (fcntl.h, Linux on all
/// architectures that NVIDIA's driver is made for).
const O_NONBLOCK: i32 = 0o4000;

/// OpenResult a GPU's node brings the GPU up, if no other process has it open and persistence mode is
/// off.
const OPENING: Duration = Duration::from_secs(15);

/// Asks the driver, with the deadline of the configuration for each call.
pub async fn survey(config: &Config) -> DriverAnswer {
    let policy = translate::policy(config);
    let deadline = config.health.call_deadline;
    let mut survey = DriverAnswer::default();
    match nvml::survey::survey(&translate::hardware(config), deadline).await {
        Err(error) => survey.problem = Some(NvmlProblem::Failed(error.to_string())),
        Ok(nvml::survey::Survey::Silent { call }) => {
            survey.problem = Some(NvmlProblem::TimedOut(call.to_owned()))
        }
        Ok(nvml::survey::NvmlSurvey::NotOpened(error)) => closed(&mut survey, error),
        Ok(nvml::survey::NvmlSurvey::Opened(up)) => {
            let mut health =
                NodeHealth::new(policy, nvml::epoch::read(&config.process.nvml.sysfs_root));
            // What cannot be read is told by the look at the directory.
            if let Some(remembered) =
                config.process.state_dir.as_deref().and_then(|there| StateFile::peek(there).ok()?)
            {
                health.restore(Moment::default(), &remembered);
            }
            let host = config.process.roots.read(config.injector.pass_device_specs);
            let inventory = Inventory::new(
                config.layout.clone(),
                config.injector_on(host),
                health,
                config.allocation,
            );
            describe(&mut survey, config, inventory, up);
        }
    }
    survey.nodes = nodes(config.process.roots.dev_root(), &survey.gpus, deadline.max(OPENING));
    survey.sees_control_node = Path::new("/dev/nvidiactl").exists();
    survey
}

fn closed(survey: &mut DriverAnswer, error: OpenError) {
    match error {
        NvmlOpenError::NotFound { tried, driver_root } => {
            survey.tried = tried;
            survey.problem = Some(NvmlProblem::NoLibrary { named: driver_root.is_none() });
        }
        NvmlOpenError::Init { library, error } => {
            survey.library = Some(library);
            survey.problem =
                Some(NvmlProblem::ReturnCode { code: error.code.0, text: error.to_string() });
        }
    }
}

fn describe(survey: &mut DriverAnswer, config: &Config, mut inventory: Inventory, up: Up) {
    survey.tried = up.tried;
    survey.library = Some(up.library);
    survey.driver_version = up.versions.driver;
    survey.library_version = up.versions.library;
    survey.cuda = up.versions.cuda;
    let surveyed = match up.gpus {
        Ok(surveyed) => surveyed,
        Err(error) => {
            survey.problem =
                Some(NvmlProblem::ReturnCode { code: error.code.0, text: error.to_string() });
            return;
        }
    };
    let found: Vec<EnumerationEntry> = surveyed.iter().filter_map(found).collect();
    let now = Moment::default();
    inventory.apply(now, InventoryEvent::Enumeration { session: 1, entries: found });
    let mut degradations: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
    for (uuid, reading) in surveyed.iter().filter_map(reading) {
        let observation = NodeObservation::Gpu(uuid, OfGpu::Poll(reading));
        for (uuid, change) in inventory.apply(now, InventoryEvent::Health(observation)).health {
            let degraded = change.notices.iter().filter_map(|notice| match notice {
                HealthNotice::Degraded(degradation) => Some(degradation.to_string()),
                _ => None,
            });
            degradations.entry(uuid).or_default().extend(degraded);
        }
    }
    if let Some(directory) = &config.process.quarantine_dir {
        let words = NodeObservation::Quarantine(quarantine_dir::entries(directory, &inventory));
        inventory.apply(now, InventoryEvent::Health(words));
    }
    survey.gpus = surveyed.iter().map(|place| gpu(place, &inventory, &degradations)).collect();
    survey.resources = inventory.resources().map(|name| offer(name, &inventory)).collect();
    survey.reserved = inventory
        .reserved()
        .iter()
        .map(|(uuid, why)| {
            let index = inventory
                .gpus()
                .get(uuid)
                .map_or_else(String::new, |gpu| format!("GPU {}, ", gpu.index));
            (format!("{index}{uuid}"), why.clone())
        })
        .collect();
    survey.findings = inventory.findings().iter().map(ToString::to_string).collect();
}

fn found(place: &SurveyedGpu) -> Option<EnumerationEntry> {
    match place {
        SurveyedGpu::Answered { found, .. } => Some(found.as_ref().clone()),
        SurveyedGpu::TimedOut { .. } => None,
    }
}

fn reading(place: &SurveyedGpu) -> Option<(Uuid, Reading)> {
    let SurveyedGpu::Answered { found, reading: Some(Ok(reading)) } = place else { return None };
    let uuid = match found.as_ref() {
        EnumerationEntry::Gpu(gpu) => Some(&gpu.uuid),
        EnumerationEntry::Failed { uuid, .. } => uuid.as_ref(),
    };
    Some((uuid?.clone(), reading.clone()))
}

fn gpu(
    place: &Surveyed,
    inventory: &Inventory,
    degradations: &BTreeMap<Uuid, Vec<String>>,
) -> GpuFacts {
    let (found, reading) = match place {
        Surveyed::Silent { index, call } => {
            return GpuFacts {
                index: *index,
                unanswered_call: Some((*call).to_owned()),
                ..GpuFacts::default()
            };
        }
        SurveyedGpu::Answered { found, reading } => (found.as_ref(), reading),
    };
    let mut gpu = match found {
        Found::Failed { index, uuid, error } => GpuFacts {
            index: *index,
            uuid: uuid.as_ref().map(ToString::to_string),
            error: Some(error.to_string()),
            ..GpuFacts::default()
        },
        Found::Gpu(facts) => GpuFacts {
            index: facts.index,
            uuid: Some(facts.uuid.to_string()),
            model: facts.name.clone(),
            bus: facts.pci_bus_id.map(|bus| bus.to_string()),
            minor: facts.minor,
            mig: facts.mig_enabled.then_some(facts.mig_devices.len()),
            ..GpuFacts::default()
        },
    };
    if let Some(Err(error)) = reading {
        gpu.error.get_or_insert(error.to_string());
    }
    let uuid = gpu.uuid.as_deref().and_then(|uuid| uuid.parse::<Uuid>().ok());
    if let Some(uuid) = uuid {
        let health = inventory.node_health().health_of(&uuid, GpuPart::Whole);
        let told =
            |cause: &Cause| (cause.summary().to_string(), cause.remedy().map(ToOwned::to_owned));
        gpu.causes = health.reasons().iter().map(|reason| told(&reason.cause)).collect();
        gpu.degradations = degradations.get(&uuid).cloned().unwrap_or_default();
    }
    gpu
}

fn offer(name: &device::names::ResourceName, inventory: &Inventory) -> OfferedResource {
    let devices: Vec<&Device> =
        inventory.devices(name).into_iter().flatten().map(|(_, device)| device).collect();
    let id = |device: &&Device| match inventory.injector().ids {
        DeviceIdStrategy::Uuid => device.id.uuid().to_string(),
        DeviceIdStrategy::Index => device.index_label(),
    };
    let mut ids: Vec<String> = devices.iter().map(id).collect();
    ids.dedup();
    OfferedResource {
        name: name.to_string(),
        devices: devices.len(),
        healthy: devices.iter().filter(|device| inventory.is_healthy(device)).count(),
        ids,
    }
}

/// Opens the device nodes that NVML and containers need. Where no GPU is known, those that are
/// there.
fn nodes(dev_root: &Path, gpus: &[GpuFacts], deadline: Duration) -> Vec<DeviceNode> {
    let dev = dev_root.join("dev");
    let mut minors: Vec<u32> = gpus.iter().filter_map(|gpu| gpu.minor).collect();
    if minors.is_empty() {
        let entries = std::fs::read_dir(&dev).into_iter().flatten().flatten();
        let name = |entry: std::fs::DirEntry| entry.file_name().into_string().ok();
        minors =
            entries.filter_map(|entry| name(entry)?.strip_prefix("nvidia")?.parse().ok()).collect();
    }
    minors.sort_unstable();
    let names = ["nvidiactl".to_owned(), "nvidia-uvm".to_owned()].into_iter();
    let paths = names
        .chain(minors.into_iter().map(|minor| format!("nvidia{minor}")))
        .map(|name| dev.join(name));
    paths
        .map(|path| DeviceNode {
            path: path.display().to_string(),
            opened: open_within(path, deadline),
        })
        .collect()
}

/// Opens on a thread of its own, which is left behind if it does not come back.
fn open_within(path: PathBuf, deadline: Duration) -> OpenResult {
    let (tell, told) = mpsc::channel();
    let opened = std::thread::Builder::new().name("open".to_owned()).spawn(move || {
        let _ = tell.send(open(&path));
    });
    match opened {
        Ok(_) => told.recv_timeout(deadline).unwrap_or(OpenResult::TimedOut),
        Err(error) => refused(&error),
    }
}

fn open(path: &Path) -> OpenResult {
    match OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open(path) {
        Ok(_) => OpenResult::Opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => OpenResult::Missing,
        Err(error) => refused(&error),
    }
}

fn refused(error: &io::Error) -> OpenResult {
    OpenResult::Refused { code: error.raw_os_error().unwrap_or_default(), text: error.to_string() }
}
