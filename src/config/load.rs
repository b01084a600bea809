//! From all sources to the [`Config`] in force, or to every mistake in all of them.

use super::checks::{self, Purpose};
use super::file::{self, FileText, FileValues};
use super::model::Config;
use super::report::{ConfigError, ConfigReport, Context, Origin};
use super::settings;
use super::sources::Sources;
use super::{names, sharing};

/// A configuration that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The warnings about it.
    pub report: ConfigReport,
}

impl Loaded {
    /// One line for each warning, and one for those that are too many.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let more = self.report.more_warnings;
        let more = (more > 0).then(|| format!("{more} more warnings about the configuration"));
        self.report.warnings.iter().map(|warning| self.report.line(warning)).chain(more)
    }
}

/// Reads all sources.
///
/// # Errors
/// Every mistake in any of them.
pub fn load(
    sources: &Sources,
    file: Option<&FileText>,
    purpose: Purpose,
) -> Result<Loaded, ConfigError> {
    let (config, report) = load_lossy(sources, file, purpose);
    if report.mistakes.is_empty() {
        Ok(Loaded { config, report })
    } else {
        Err(ConfigError(report))
    }
}

/// Reads all sources, with the default wherever there is a mistake: a configuration to examine a
/// node by, and none to run on.
pub(super) fn load_lossy(
    sources: &Sources,
    file: Option<&FileText>,
    purpose: Purpose,
) -> (Config, ConfigReport) {
    let mut context = Context::default();
    let origin = sources.config_file().map_or(Origin::Default, |(_, origin)| origin);
    let document = file.and_then(|file| file::document(file, &origin, &mut context));
    let values = document.as_ref().map(|root| file::values(root, &mut context));
    let FileValues { settings, sharing, resources } = values.unwrap_or_default();
    let mut config = Config::default();
    for setting in settings::all() {
        let file = setting.key.and_then(|key| settings.get(key));
        sources.apply(setting, file, &mut config, &mut context);
    }
    let custom = config.custom_resources;
    if let Some(field) = resources {
        names::read_resources(&field, custom, &mut config.layout, &mut context);
    }
    if let Some(field) = sharing {
        config.layout.sharing = sharing::read(&field, custom, &mut context);
    }
    checks::check(&mut config, purpose, &mut context);
    let Context { mut report, origins } = context;
    config.origins = origins;
    report.sort();
    (config, report)
}
