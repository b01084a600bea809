//! From all sources to the [`Config`] in force, or to every mistake in all of them; and the config
//! file over time, compared by its content, so that a ConfigMap's symlink swap is one change and a
//! touched file is none.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::checks::{self, Purpose};
use super::file::{self, FileText, FileValues, LARGEST};
use super::model::Config;
use super::report::{ConfigError, ConfigReport, Context, Origin};
use super::settings;
use super::sources::Sources;
use super::{names, sharing};
use crate::host::file::{self as host_file, Links};

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

/// Command line and environment, which never change, and the file, which may.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    sources: Sources,
    path: Option<PathBuf>,
    seen: Option<FoundFile>,
    /// Whether the file that was last accepted has any content.
    had_content: bool,
}

/// The file at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FoundFile {
    text: FileText,
    /// It is a link to `/dev/null`, by which NVIDIA's config manager says that all settings are to
    /// have their defaults.
    is_null: bool,
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
        Self { sources, path, seen: None, had_content: false }
    }

    /// The command line and the environment.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The file to watch. It may be a symlink, and so may any directory above it.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Reads all sources: at the start. An empty file is as good as none.
    ///
    /// # Errors
    /// Every mistake in any of them.
    pub fn load(&mut self) -> Result<Loaded, ConfigError> {
        self.seen = self.path.as_deref().map(read);
        let loaded = load(&self.sources, self.text(), Purpose::Serve)?;
        self.had_content = self.has_content();
        Ok(loaded)
    }

    /// Reads all sources, with the default wherever there is a mistake, to examine a node by.
    pub fn load_lossy(&mut self) -> (Config, ConfigReport) {
        self.seen = self.path.as_deref().map(read);
        load_lossy(&self.sources, self.text(), Purpose::Serve)
    }

    /// Reads the file, and all sources if its content has changed. Each content is refused once.
    pub fn reload(&mut self) -> Reload {
        let now = self.path.as_deref().map(read);
        if now == self.seen {
            return Reload::Unchanged;
        }
        self.seen = now;
        self.reloaded()
    }

    /// Reads all sources, changed or not.
    pub fn reload_anyway(&mut self) -> Reload {
        self.seen = self.path.as_deref().map(read);
        self.reloaded()
    }

    fn reloaded(&mut self) -> Reload {
        let loaded = match load(&self.sources, self.text(), Purpose::Serve) {
            Ok(loaded) => loaded,
            Err(refused) => return Reload::Refused(refused),
        };
        let is_null = self.seen.as_ref().is_some_and(|file| file.is_null);
        let has_content = self.has_content();
        if self.had_content && !has_content && !is_null {
            return Reload::Refused(emptied(self.path.as_deref()));
        }
        self.had_content = has_content;
        Reload::Loaded(Box::new(loaded))
    }

    fn text(&self) -> Option<&FileText> {
        self.seen.as_ref().map(|file| &file.text)
    }

    fn has_content(&self) -> bool {
        self.text().is_some_and(file::has_content)
    }
}

/// An empty file is one that somebody is about to write, so that it never means the defaults by
/// itself.
fn emptied(path: Option<&Path>) -> ConfigError {
    let mut context = Context::default();
    context.report.file = path.map(Path::to_owned);
    let problem = "the file is empty, as while it is being written; for the defaults write \
        `version: v1`, or link it to /dev/null";
    context.mistake(Origin::File { line: 1 }, "", "", problem);
    ConfigError(context.report)
}

/// The file at `path`, or why there is none. It is opened and read without waiting for anybody.
fn read(path: &Path) -> FoundFile {
    found(path, host_file::open(path, Links::Follow).and_then(read_start))
}

fn found(path: &Path, content: io::Result<Vec<u8>>) -> FoundFile {
    let has_bytes = content.as_ref().is_ok_and(|bytes| !bytes.is_empty());
    let is_null = !has_bytes && is_null_device(path);
    let content = if is_null { Ok(Vec::new()) } else { content };
    let content = content.map_err(|error| error.to_string());
    FoundFile { text: FileText { path: path.to_owned(), content }, is_null }
}

/// Reads no more than shows that it is more than a config file may have.
pub(super) fn read_start(file: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(LARGEST + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether it is the device that is always empty.
fn is_null_device(path: &Path) -> bool {
    let same = |there: fs::Metadata| {
        let null = fs::metadata("/dev/null").map(|null| null.rdev());
        there.file_type().is_char_device() && null.is_ok_and(|null| null == there.rdev())
    };
    fs::metadata(path).is_ok_and(same)
}
