//! From everything that was written to the [`Config`] in force, or to every mistake in all of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use device::injection::DeviceListStrategy;
use device::layout::MigStrategy;
use device::layout::sharing::Sharing;
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::choice::{CdiFeature, Choice, DiscoveryStrategy, words};
use super::file::{self, FileText};
use super::model::{
    Allocation, Cdi, Config, DisabledHooks, HttpAddress, Imex, Injection, KubeletSocket, Layout,
    Process,
};
use super::nearest::nearest;
use super::raw::{self, Raw, Read};
use super::report::{Origin, Origins, Refused, Remark, Report};
use super::sources::{Reader, Sources};
use super::{filter, health, resources, settings, sharing};

/// What the configuration is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To run on it.
    Serve,
    /// To check a file, here and now, that will be used elsewhere: what flags and environment have
    /// to add there is a warning.
    Check,
}

/// A configuration that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is to be told about it.
    pub report: Report,
}

impl Loaded {
    /// One line for each warning.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.report.warnings.iter().map(|warning: &Remark| self.report.line(warning))
    }
}

/// Reads all sources. Every mistake in any of them is in the one refusal.
pub fn load(
    sources: &Sources,
    file: Option<&FileText>,
    purpose: Purpose,
) -> Result<Loaded, Refused> {
    let (config, report) = read(sources, file, purpose);
    if report.mistakes.is_empty() { Ok(Loaded { config, report }) } else { Err(Refused(report)) }
}

/// Reads all sources. Where there is a mistake, the default stands in the configuration, which is
/// then one to look around with and none to run on.
pub(super) fn read(
    sources: &Sources,
    file: Option<&FileText>,
    purpose: Purpose,
) -> (Config, Report) {
    let mut report = Report::default();
    let from = sources.config_file().map_or(Origin::Default, |(_, origin)| origin);
    let origins = Origins::from([(settings::CONFIG_FILE.name().to_owned(), from.clone())]);
    let document = file.and_then(|file| file::document(file, &from, &mut report));
    let layer = document.as_ref().map(|root| file::layer(root, &mut report)).unwrap_or_default();
    let mut reader = Reader { sources, layer, report, origins };
    let mut config = reader.config(file.map(|file| file.path.as_path()), purpose);
    let mut report = reader.report;
    config.origins = reader.origins;
    report.sort();
    (config, report)
}

impl Reader<'_> {
    fn config(&mut self, file: Option<&Path>, purpose: Purpose) -> Config {
        let layout = self.layout();
        Config {
            process: self.process(file),
            sharing: self.sharing(&layout, purpose),
            layout,
            injection: self.injection(),
            allocation: Allocation {
                whole: self.read(&settings::ALLOCATION_POLICY, raw::choice),
                shared: self.read(&settings::SHARED_POLICY, raw::choice),
            },
            health: self.health(),
            origins: Origins::new(),
        }
    }

    fn process(&mut self, file: Option<&Path>) -> Process {
        Process {
            config_file: file.map(Path::to_owned),
            kubelet_socket: self.read(&settings::KUBELET_SOCKET, kubelet_socket),
            pod_resources_socket: self.read(&settings::POD_RESOURCES_SOCKET, raw::path),
            http_address: self.read(&settings::HTTP_ADDRESS, http_address),
            log_format: self.read(&settings::LOG_FORMAT, raw::choice),
            log_filter: self.read(&settings::LOG_LEVEL, log_filter),
            nvml_library: self.read(&settings::NVML_LIBRARY, raw::path),
            driver_root_ctr_path: self.read(&settings::DRIVER_ROOT_CTR_PATH, root),
            sysfs_root: self.read(&settings::SYSFS_ROOT, root),
            proc_root: self.read(&settings::PROC_ROOT, root),
            fail_on_init_error: self.read(&settings::FAIL_ON_INIT_ERROR, raw::boolean),
            state_dir: self.read(&settings::STATE_DIR, raw::path),
            quarantine_dir: self.read(&settings::QUARANTINE_DIR, raw::path),
        }
    }

    fn layout(&mut self) -> Layout {
        let (discovery, origin) =
            self.read_from(&settings::DISCOVERY_STRATEGY, raw::choice::<DiscoveryStrategy>);
        if discovery == DiscoveryStrategy::Tegra {
            let problem = "has no effect: devices are found through NVML, and Tegra systems \
                without it have none";
            self.report.warning(origin, settings::DISCOVERY_STRATEGY.name(), "\"tegra\"", problem);
        }
        let custom_resources = self.read(&settings::CUSTOM_RESOURCES, raw::boolean);
        let field = self.layer.resources.take();
        let names = field.map(|field| {
            resources::resources(&field, custom_resources, &mut self.report, &mut self.origins)
        });
        let names = names.unwrap_or_default();
        Layout {
            mig_strategy: self.read(&settings::MIG_STRATEGY, raw::choice),
            devices: self.read(&settings::DEVICES, filter::filter),
            custom_resources,
            gpu_names: names.gpus,
            mig_names: names.mig,
        }
    }

    fn sharing(&mut self, layout: &Layout, purpose: Purpose) -> Sharing {
        let (root, _) = self.read_from(&settings::MPS_ROOT, raw::absolute);
        let Some(field) = self.layer.sharing.take() else { return Sharing::None };
        let custom = layout.custom_resources;
        let stated = sharing::sharing(&field, custom, &mut self.report, &mut self.origins);
        let Some((replication, line)) = stated.mps else {
            let Some(replication) = stated.time_slicing else { return Sharing::None };
            sharing::without_devices(
                "timeSlicing",
                &replication,
                layout,
                &mut self.report,
                &self.origins,
            );
            return Sharing::TimeSlicing(replication);
        };
        sharing::without_devices("mps", &replication, layout, &mut self.report, &self.origins);
        let origin = Origin::File { line };
        if layout.mig_strategy == MigStrategy::Mixed {
            let by = self.origins.get(settings::MIG_STRATEGY.name()).unwrap_or(&Origin::Default);
            let problem = format!(
                "cannot be combined with the MIG strategy mixed (from {by}); use timeSlicing, or \
                    the strategy none or single"
            );
            self.report.mistake(origin.clone(), "sharing.mps", "", problem);
        }
        if root.is_none() {
            let problem = "needs the MPS root, the host's directory of the control daemon: flag \
                --mps-root, environment MPS_ROOT or flags.mpsRoot (usually /run/nvidia/mps)";
            match purpose {
                Purpose::Serve => self.report.mistake(origin, "sharing.mps", "", problem),
                Purpose::Check => self.report.warning(origin, "sharing.mps", "", problem),
            }
        }
        Sharing::Mps { replication, root: root.unwrap_or_default() }
    }

    fn injection(&mut self) -> Injection {
        let driver_root =
            self.read(&settings::DRIVER_ROOT, raw::absolute).unwrap_or_else(|| PathBuf::from("/"));
        let dev_root =
            self.read(&settings::DEV_ROOT, raw::absolute).unwrap_or_else(|| driver_root.clone());
        let has_imex = self.read(&settings::IMEX_CHANNEL_IDS, imex_channels);
        let required = self.read(&settings::IMEX_REQUIRED, raw::boolean);
        let (list_strategies, origin) =
            self.read_from(&settings::DEVICE_LIST_STRATEGY, list_strategies);
        self.specifications_elsewhere(&list_strategies, origin);
        Injection {
            list_strategies,
            id_strategy: self.read(&settings::DEVICE_ID_STRATEGY, raw::choice),
            pass_device_specs: self.read(&settings::PASS_DEVICE_SPECS, raw::boolean),
            driver_root,
            dev_root,
            gds: self.read(&settings::GDS_ENABLED, raw::boolean),
            mofed: self.read(&settings::MOFED_ENABLED, raw::boolean),
            gdrcopy: self.read(&settings::GDRCOPY_ENABLED, raw::boolean),
            imex: match (has_imex, required) {
                (false, _) => Imex::Off,
                (true, false) => Imex::IfPresent,
                (true, true) => Imex::Required,
            },
            cdi: self.cdi(),
        }
    }

    /// Names alone make no device: without a specification the runtime refuses the container.
    fn specifications_elsewhere(
        &mut self,
        strategies: &BTreeSet<DeviceListStrategy>,
        origin: Origin,
    ) {
        const CDI: [DeviceListStrategy; 2] =
            [DeviceListStrategy::CdiAnnotations, DeviceListStrategy::CdiCri];
        let words: Vec<_> =
            strategies.iter().filter(|word| CDI.contains(word)).map(|word| word.as_str()).collect();
        if !words.is_empty() {
            let problem = "hands out names of CDI devices alone: this version does not write their \
                specifications, so something else has to write those of the kind \
                k8s.device-plugin.nvidia.com/gpu on the host, or containers do not start \
                (nvidia-ctk cdi generate --vendor=k8s.device-plugin.nvidia.com \
                --device-name-strategy=uuid writes them)";
            self.report.warning(
                origin,
                settings::DEVICE_LIST_STRATEGY.name(),
                words.join(","),
                problem,
            );
        }
    }

    fn cdi(&mut self) -> Cdi {
        let (asked, origin) = self.read_from(&settings::CDI_FEATURE_FLAGS, words_of);
        let (features, unknown): (Vec<_>, Vec<_>) = asked
            .iter()
            .map(|word| CdiFeature::from_word(word).ok_or(word))
            .partition(Result::is_ok);
        for word in unknown.into_iter().filter_map(Result::err) {
            let problem =
                format!("is unknown and ignored; known: {}", words::<CdiFeature>().join(", "));
            let key = settings::CDI_FEATURE_FLAGS.name();
            self.report.warning(origin.clone(), key, format!("{word:?}"), problem);
        }
        let hooks = self.read(&settings::CDI_DISABLE_HOOKS, words_of);
        Cdi {
            annotation_prefix: self.read(&settings::CDI_ANNOTATION_PREFIX, annotation_prefix),
            hook_path: self.read(&settings::CDI_HOOK_PATH, raw::path).unwrap_or_default(),
            features: features.into_iter().filter_map(Result::ok).collect(),
            disabled_hooks: match hooks.contains("all") {
                true => DisabledHooks::All,
                false => DisabledHooks::These(hooks),
            },
        }
    }

    fn health(&mut self) -> super::model::Health {
        let mut health = health::defaults();
        if let Some(field) = self.layer.health.take() {
            let poll_interval =
                health::health(&field, &mut health, &mut self.report, &mut self.origins);
            if let (Some(key), Some(field)) = (settings::HEALTH_POLL_INTERVAL.key, poll_interval) {
                self.layer.settings.insert(key, field);
            }
        }
        health.poll_interval = self.read(&settings::HEALTH_POLL_INTERVAL, poll_interval);
        health.disable_healthchecks = self.read(&settings::DISABLE_HEALTHCHECKS, raw::text);
        health.enable_healthchecks = self.read(&settings::ENABLE_HEALTHCHECKS, raw::text);
        health
    }
}

fn kubelet_socket(raw: Raw<'_>) -> Read<KubeletSocket> {
    match raw::absolute(raw)? {
        None => {
            let default = Path::new(settings::KUBELET_SOCKET.default);
            Ok(KubeletSocket::NeverRegister(default.parent().unwrap_or(default).to_owned()))
        }
        Some(path) if path.file_name().is_none() => raw::wrong_text(
            &path.to_string_lossy(),
            "is a directory; the path of a socket is asked for",
        ),
        Some(path) => Ok(KubeletSocket::At(path)),
    }
}

/// A directory of our own container; an empty text is the root.
fn root(raw: Raw<'_>) -> Read<PathBuf> {
    Ok(raw::path(raw)?.unwrap_or_else(|| PathBuf::from("/")))
}

fn http_address(raw: Raw<'_>) -> Read<HttpAddress> {
    let text = raw::text(raw)?;
    if text.is_empty() {
        return Ok(HttpAddress::Off);
    }
    if let Some(path) = text.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
        return Ok(HttpAddress::Unix(PathBuf::from(path)));
    }
    let address = match text.strip_prefix(':') {
        Some(port) => port.parse().ok().map(HttpAddress::AnyAddress),
        None => text.replacen("localhost:", "127.0.0.1:", 1).parse().ok().map(HttpAddress::Tcp),
    };
    match address {
        Some(address) => Ok(address),
        None => raw::wrong_text(&text, "is not IP:PORT, :PORT, unix:/PATH or empty"),
    }
}

const LOG_LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// A level, or a list of targets with theirs. Taken for itself a word that is no level would be a
/// target, of which every line is written and of all others none: a mistyped level would silence
/// the log. An empty variable says nothing.
fn log_filter(raw: Raw<'_>) -> Read<String> {
    let text = raw::text(raw)?;
    if text.trim().is_empty() {
        return Ok(settings::LOG_LEVEL.default.to_owned());
    }
    let allowed = format!("a level ({}) or a comma list of target=level", LOG_LEVELS.join(", "));
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let wrong = words.filter(|word| {
        !word.contains('=') && !is_level(word) && !word.starts_with(env!("CARGO_CRATE_NAME"))
    });
    let wrong: Vec<Read<()>> = wrong
        .map(|word| {
            let meant = nearest(word, LOG_LEVELS)
                .map(|level| format!("; did you mean {level}?"))
                .unwrap_or_default();
            raw::wrong_text(word, format!("is not {allowed}{meant}"))
        })
        .collect();
    raw::all(wrong)?;
    match text.parse::<Targets>() {
        Ok(_) => Ok(text),
        Err(error) => raw::wrong_text(&text, format!("is not {allowed}: {error}")),
    }
}

/// What the runtime takes as the prefix of an annotation's key: nothing, or a DNS subdomain and a
/// slash. More would make a key that it refuses, and the container with it.
fn annotation_prefix(raw: Raw<'_>) -> Read<String> {
    let text = raw::text(raw)?;
    let domain = text.strip_suffix('/');
    let label = |label: &str| {
        let ends = [label.bytes().next(), label.bytes().last()];
        ends.iter()
            .all(|byte| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()))
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let sound = domain.is_some_and(|domain| domain.len() <= 253 && domain.split('.').all(label));
    if text.is_empty() || sound {
        return Ok(text);
    }
    raw::wrong_text(&text, "is not a DNS subdomain and a slash (such as cdi.k8s.io/), nor empty")
}

fn list_strategies(raw: Raw<'_>) -> Read<BTreeSet<DeviceListStrategy>> {
    let items = raw::list(raw)?;
    if items.is_empty() {
        let allowed = words::<DeviceListStrategy>().join(", ");
        return raw::wrong(
            "an empty list",
            format!("hands over nothing; allowed are any of {allowed}"),
        );
    }
    Ok(raw::all(items.iter().map(|item| item.read(raw::word)))?.into_iter().collect())
}

/// Whether channel 0 is asked for.
fn imex_channels(raw: Raw<'_>) -> Read<bool> {
    let zero = |text: &str| match raw::text_number(text) {
        Some(0) => Ok(()),
        _ => raw::wrong_text(
            text,
            "is not an IMEX channel that can be given to containers; allowed are none, or 0",
        ),
    };
    let items = raw::list(raw)?;
    let channels = raw::all(items.iter().map(|item| item.read(zero)))?;
    match channels.len() {
        0 | 1 => Ok(!channels.is_empty()),
        _ => {
            raw::wrong("a list of several channels", "cannot be used; allowed are none, or 0 once")
        }
    }
}

fn words_of(raw: Raw<'_>) -> Read<BTreeSet<String>> {
    let items = raw::list(raw)?;
    Ok(items.into_iter().map(|item| item.text).filter(|text| !text.is_empty()).collect())
}

fn poll_interval(raw: Raw<'_>) -> Read<std::time::Duration> {
    const SHORTEST: std::time::Duration = std::time::Duration::from_millis(100);
    let duration = raw::duration(raw)?;
    if duration < SHORTEST {
        let written = super::duration::written(duration);
        return raw::wrong(
            written,
            "is shorter than 100ms; a number without a unit counts nanoseconds",
        );
    }
    Ok(duration)
}
