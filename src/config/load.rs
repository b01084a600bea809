//! From all sources to the [`Config`] in force, or to every mistake in all of them; and the config
//! file over time, compared by its content, so that a ConfigMap's symlink swap is one change and a
//! touched file is none.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::checks::{self, Purpose};
use super::file::{self, FileText, FileValues, LARGEST};
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
fn load_lossy(
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

/// Command line and environment, which never change, and the file, which may.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    sources: Sources,
    path: Option<PathBuf>,
    seen: Option<FileText>,
}

/// What reading the file again gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// Its content is the same.
    Unchanged,
    /// It has another content.
    Loaded(Box<Loaded>),
    /// It cannot be used; the configuration in force stays.
    Refused(ConfigError),
}

impl ConfigSource {
    /// The file that flag or environment name, if any.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        let path = sources.config_file().map(|(path, _)| PathBuf::from(path));
        Self { sources, path, seen: None }
    }

    /// The file to watch. It may be a symlink, and so may any directory above it.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Reads all sources, changed or not: at the start, and on SIGHUP.
    ///
    /// # Errors
    /// Every mistake in any of them.
    pub fn load(&mut self, purpose: Purpose) -> Result<Loaded, ConfigError> {
        self.seen = self.path.as_deref().map(read);
        load(&self.sources, self.seen.as_ref(), purpose)
    }

    /// Reads all sources, with the default wherever there is a mistake, to examine a node by.
    pub fn load_lossy(&mut self) -> (Config, ConfigReport) {
        self.seen = self.path.as_deref().map(read);
        load_lossy(&self.sources, self.seen.as_ref(), Purpose::Serve)
    }

    /// Reads all sources for `config check`: the warnings, or every mistake.
    ///
    /// # Errors
    /// Every mistake in any of them.
    pub fn check(&mut self) -> Result<String, ConfigError> {
        let loaded = self.load(Purpose::Check)?;
        let path = self
            .path
            .as_deref()
            .map_or_else(|| "flags and environment".into(), Path::to_string_lossy);
        Ok(format!("{path}: no mistakes\n{}", loaded.report))
    }

    /// Reads the file, and all sources if its content has changed. Each content is refused once.
    pub fn reload(&mut self) -> Reload {
        let now = self.path.as_deref().map(read);
        if now == self.seen {
            return Reload::Unchanged;
        }
        self.seen = now;
        match load(&self.sources, self.seen.as_ref(), Purpose::Serve) {
            Ok(loaded) => Reload::Loaded(Box::new(loaded)),
            Err(refused) => Reload::Refused(refused),
        }
    }
}

/// The content of the file at `path`, or why there is none. Reads no more than a config file may
/// have.
fn read(path: &Path) -> FileText {
    let mut bytes = Vec::new();
    let limit = u64::try_from(LARGEST + 1).unwrap_or(u64::MAX);
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    FileText {
        path: path.to_owned(),
        content: read.map(|_| bytes).map_err(|error| error.to_string()),
    }
}
