//! What the driver answers: NVML, each GPU, what the plugin would offer, and the device nodes.

mod gpus;
mod nodes;

use std::io;
use std::path::Path;
use std::time::Duration;

use device::health::{Moment, NodeHealth, NvmlError};
use device::inventory::Inventory;

use crate::config::Config;
use crate::doctor::facts::{DriverAnswer, NvmlProblem, SurveyPart};
use crate::host::state_file::StateFile;
use crate::nvml::survey::{NvmlSurvey, OpenedNvml};
use crate::nvml::{self, NvmlOpenError};

/// Surveys the driver, and sends each part as it comes. A call may take as long as `patience`.
///
/// # Errors
/// That of `send`.
pub async fn survey(
    config: &Config,
    patience: Duration,
    mut send: impl FnMut(&SurveyPart) -> io::Result<()>,
) -> io::Result<()> {
    let answer = nvml(config, patience).await;
    let gpus = answer.gpus.clone();
    send(&SurveyPart::Nvml(Box::new(answer)))?;
    nodes::open_all(config.process.roots.dev_root(), &gpus, patience, |node| {
        send(&SurveyPart::Node(node))
    })?;
    send(&SurveyPart::End)
}

async fn nvml(config: &Config, deadline: Duration) -> DriverAnswer {
    let mut answer = DriverAnswer::default();
    match nvml::survey::survey(&config.process.nvml, deadline).await {
        Err(error) => answer.problem = Some(NvmlProblem::Failed(error.to_string())),
        Ok(NvmlSurvey::TimedOut { call }) => {
            answer.problem = Some(NvmlProblem::TimedOut(call.into()))
        }
        Ok(NvmlSurvey::NotOpened(error)) => not_opened(&mut answer, error),
        Ok(NvmlSurvey::Opened(up)) => opened(&mut answer, config, up),
    }
    answer.sees_control_node = Path::new("/dev/nvidiactl").exists();
    answer
}

fn not_opened(answer: &mut DriverAnswer, error: NvmlOpenError) {
    match error {
        NvmlOpenError::NotFound { tried, driver_root } => {
            answer.tried = tried;
            answer.problem = Some(NvmlProblem::NoLibrary { named: driver_root.is_none() });
        }
        NvmlOpenError::Init { library, error } => {
            answer.library = Some(library);
            answer.problem = Some(refused(&error));
        }
    }
}

fn opened(answer: &mut DriverAnswer, config: &Config, up: OpenedNvml) {
    answer.tried = up.tried;
    answer.library = Some(up.library);
    answer.driver_version = up.versions.driver;
    answer.library_version = up.versions.library;
    answer.cuda = up.versions.cuda;
    match up.gpus {
        Ok(surveyed) => gpus::describe(answer, config, empty_inventory(config), &surveyed),
        Err(error) => answer.problem = Some(refused(&error)),
    }
}

fn refused(error: &NvmlError) -> NvmlProblem {
    NvmlProblem::ReturnCode { code: error.code.0, text: error.to_string() }
}

/// The inventory as the plugin would start with it, with the causes of the state file.
fn empty_inventory(config: &Config) -> Inventory {
    let epoch = nvml::epoch::read(&config.process.nvml.sysfs_root);
    let mut health = NodeHealth::new(config.policy(), epoch.clone());
    // A file that cannot be read is reported with its directory.
    let state_dir = config.process.state_dir.as_deref();
    let persisted = state_dir.and_then(|directory| StateFile::peek(directory).ok()?);
    let persisted = persisted.unwrap_or_default();
    health.restore(Moment::default(), &persisted.health);
    let host = config.process.roots.read(config.injector.pass_device_specs);
    let injector = config.injector_on(host);
    let layout = config.layout.clone();
    let mut inventory = Inventory::new(layout, injector, health, config.allocation);
    inventory.restore_gpus(&epoch.boot, persisted.known_gpus);
    inventory
}
