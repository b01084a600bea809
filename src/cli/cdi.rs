//! `cdi`: the specifications that the plugin would write, and those that are on the node.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use device::cdi::{CLASSES, Specifications};
use device::health::{Moment, NodeHealth};
use device::injection::DeviceListStrategy;
use device::injection::cdi_names::VENDOR;
use device::inventory::{Inventory, InventoryEvent};
use status::escaped;

use super::args::CdiAction;
use super::output::{print, print_error, print_json};
use super::run;
use crate::cdi::generate::HostCache;
use crate::cdi::{CdiPaths, Document, MOST_BYTES, file_name, validate};
use crate::config::{Config, ConfigSource};
use crate::host::file::{self, Links};
use crate::nvml::survey::{NvmlSurvey, SurveyedGpu, survey};

/// How long a call of the driver may take.
const DRIVER_DEADLINE: Duration = Duration::from_secs(10);

/// Prints the specifications that the plugin would write, or looks at those that there are.
pub fn cdi(action: CdiAction, source: &mut ConfigSource) -> ExitCode {
    let (config, _) = source.load_lossy();
    match action {
        CdiAction::Generate { output } => generate(&config, output.as_deref()),
        CdiAction::List => list(&config),
        CdiAction::Validate { files } => validate(&config, files),
    }
}

fn generate(config: &Config, output: Option<&Path>) -> ExitCode {
    let found = match run(specifications(config, output.is_none())) {
        Ok(found) => found,
        Err(error) => {
            print_error(&format!("cannot tell which devices there are: {error}"));
            return ExitCode::FAILURE;
        }
    };
    found.incomplete.iter().for_each(|what| print_error(&escaped(what)));
    for why in &found.not_limited {
        print_error(&escaped(&format!("memory limits are not enforceable on this node: {why}")));
    }
    let documents = found.files.iter().map(|file| (file.class, Document::from(file)));
    let Some(directory) = output else {
        let text: Vec<u8> = documents.flat_map(|(_, document)| document.bytes()).collect();
        return print_json(String::from_utf8_lossy(&text).into_owned(), 0);
    };
    for (class, document) in documents {
        let path = directory.join(file_name(class));
        if let Err(error) = file::replace(&path, &document.bytes(), 0o644) {
            print_error(&format!("cannot write {}: {error}", path.display()));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The specifications of the devices that the driver lists now.
async fn specifications(config: &Config, is_dry_run: bool) -> Result<Specifications, String> {
    let survey = survey(&config.process.nvml, DRIVER_DEADLINE).await;
    let up = match survey.map_err(|error| error.to_string())? {
        NvmlSurvey::Opened(up) => up,
        NvmlSurvey::NotOpened(error) => return Err(error.to_string()),
        NvmlSurvey::TimedOut { call } => return Err(format!("{call} does not return")),
    };
    let gpus = up.gpus.map_err(|error| error.to_string())?;
    let count = u32::try_from(gpus.len()).unwrap_or(u32::MAX);
    let entries = gpus.into_iter().filter_map(|gpu| match gpu {
        SurveyedGpu::Answered { found, .. } => Some(*found),
        SurveyedGpu::TimedOut { found, .. } => found.map(|found| *found),
    });
    let mut injector = config.injector_on(config.process.roots.read(true));
    if !injector.uses_cdi() {
        injector.strategies.insert(DeviceListStrategy::CdiCri);
    }
    let (layout, health) = (config.layout.clone(), NodeHealth::default());
    let mut inventory = Inventory::new(layout, injector, health, config.allocation);
    let entries = entries.collect();
    let listed = InventoryEvent::Enumeration { session: 1, count, entries };
    inventory.apply(Moment::default(), listed);
    let (mut paths, settings) = (config.process.cdi_paths(), &config.cdi);
    paths.hook.is_dry_run = is_dry_run;
    let driver = up.versions.driver.as_deref();
    let none_kept = BTreeMap::new();
    Ok(HostCache::default().generate(&paths, settings, driver, &inventory, &none_kept))
}

/// The files of the plugin's kinds that there are, with what is in them.
fn files(paths: &CdiPaths) -> Vec<PathBuf> {
    let files = CLASSES.iter().map(|class| paths.spec_dir.join(file_name(class)));
    files.filter(|path| fs::symlink_metadata(path).is_ok()).collect()
}

fn read(path: &Path) -> Result<Document, String> {
    let bytes = file::read(path, Links::Follow, MOST_BYTES).map_err(|error| error.to_string())?;
    validate::parse(&bytes)
}

fn list(config: &Config) -> ExitCode {
    let paths = config.process.cdi_paths();
    let (mut text, mut code) = (String::new(), 0);
    let files = files(&paths);
    if files.is_empty() {
        let directory = paths.spec_dir.display();
        print_error(&format!("there is no specification of the vendor {VENDOR} in {directory}"));
        return ExitCode::FAILURE;
    }
    for path in files {
        match read(&path) {
            Ok(document) => {
                for device in &document.devices {
                    let name = format!("{}={}", document.kind, device.name);
                    text.push_str(&escaped(&name));
                    text.push('\n');
                }
            }
            Err(error) => {
                print_error(&escaped(&format!("{}: {error}", path.display())));
                code = 1;
            }
        }
    }
    print(&text, code)
}

fn validate(config: &Config, named: Vec<PathBuf>) -> ExitCode {
    let paths = config.process.cdi_paths();
    let named = if named.is_empty() { files(&paths) } else { named };
    if named.is_empty() {
        let directory = paths.spec_dir.display();
        print_error(&format!("there is no specification of the vendor {VENDOR} in {directory}"));
        return ExitCode::FAILURE;
    }
    let (mut text, mut code) = (String::new(), 0);
    for path in named {
        let problems = match read(&path) {
            Ok(document) => {
                let problems = validate::problems(&document);
                if problems.is_empty() {
                    let devices = document.devices.len();
                    text.push_str(&format!("{}: valid, {devices} devices\n", path.display()));
                }
                problems
            }
            Err(error) => vec![error],
        };
        for problem in problems {
            code = 1;
            text.push_str(&escaped(&format!("{}: {problem}", path.display())));
            text.push('\n');
        }
    }
    print(&text, code)
}
