//! The config file over time, compared by its content, so that a ConfigMap's symlink swap is one
//! change and a touched file is none; and where somebody chooses it by name, which file it is.

use std::io;
use std::path::{Path, PathBuf};

use super::checks::Purpose;
use super::file::{self, FileText};
use super::found::FoundFile;
use super::load::{Loaded, load, load_lossy};
use super::model::Config;
use super::named::{ConfigName, NamedConfigs};
use super::report::{ConfigError, ConfigReport, Context, Origin};
use super::settings;
use super::sources::Sources;

/// Command line and environment, which never change, and the file, which may: its content, and
/// where somebody chooses by name, which file it is.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    sources: Sources,
    path: Option<PathBuf>,
    named: Option<NamedConfigs>,
    /// What was chosen last; `None`: the file at `path`, or none.
    choice: Option<ConfigName>,
    seen: Option<FoundConfig>,
    /// The file that was last accepted, if it had any content.
    content_at: Option<PathBuf>,
    /// The file that was last accepted.
    file: Option<PathBuf>,
    /// The name by which it was chosen, if by one.
    accepted: Option<ConfigName>,
    /// What the state directory has of that.
    kept: Option<ConfigName>,
    refused_choice: Option<ConfigError>,
}

/// The file at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
enum FoundConfig {
    /// It is there, or cannot be read.
    File(FoundFile),
    /// There is none that was chosen, and why.
    NotChosen(String),
}

/// What reading the file again gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// Its content is the same.
    Unchanged,
    /// It has another content, or is another one.
    Loaded(Box<Loaded>),
    /// It cannot be used; the configuration in force stays.
    Refused(ConfigError),
}

impl ConfigSource {
    /// The file that flag or environment name, if any, or that is chosen by name.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        let path = sources.config_file().map(|(path, _)| PathBuf::from(path));
        let text = |setting| sources.text_of(setting);
        let named = NamedConfigs::new(
            &text(&settings::CONFIG_DIR),
            &text(&settings::CONFIG_NAME_FILE),
            &text(&settings::STATE_DIR),
        );
        Self {
            sources,
            path,
            named,
            choice: None,
            seen: None,
            content_at: None,
            file: None,
            accepted: None,
            kept: None,
            refused_choice: None,
        }
    }

    /// The command line and the environment.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The files to watch. Each may be a symlink, and so may any directory above it.
    #[must_use]
    pub fn watched(&self) -> Vec<PathBuf> {
        let named = self.named.iter();
        let choosing = named.flat_map(|named| {
            let chosen = self.choice.as_ref().map(|name| named.path(name));
            chosen.into_iter().chain([named.name_file().to_owned()])
        });
        self.path.iter().cloned().chain(choosing).collect()
    }

    /// The file that is in force, once it was read.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads all sources: at the start. An empty file is as good as none. A file that somebody
    /// chooses by name and that is refused ends nothing: that of the choice before counts, or else
    /// that of flag and environment ([`take_refused_choice`](Self::take_refused_choice)).
    ///
    /// # Errors
    /// Every mistake in any of them.
    pub fn load(&mut self) -> Result<Loaded, ConfigError> {
        self.kept = self.named.as_ref().and_then(NamedConfigs::kept);
        self.choice = self.kept.clone();
        let found = self.find();
        let chosen = self.choice.clone();
        self.seen = found.clone();
        let refused = match self.accept(found, chosen.clone()) {
            Err(refused) if chosen.is_some() || self.is_not_chosen() => refused,
            loaded => return loaded,
        };
        self.refused_choice = Some(refused);
        if let Some(kept) = self.kept.clone()
            && let Ok(loaded) = self.accept(self.find_named(&kept), Some(kept))
        {
            return Ok(loaded);
        }
        self.accept(self.find_own(), None)
    }

    /// Reads all sources, with the default wherever there is a mistake, to examine a node by.
    pub fn load_lossy(&mut self) -> (Config, ConfigReport) {
        self.choice = self.named.as_ref().and_then(NamedConfigs::kept);
        self.seen = self.find();
        let file = self.seen.as_ref().and_then(FoundConfig::text);
        load_lossy(&self.sources, file, Purpose::Serve)
    }

    /// Why the file that was chosen by name at the start is not the one in force; once.
    pub fn take_refused_choice(&mut self) -> Option<ConfigError> {
        self.refused_choice.take()
    }

    /// Reads the file, and all sources if its content has changed. Each content is refused once.
    pub fn reload(&mut self) -> Reload {
        let now = self.find();
        if now == self.seen {
            return Reload::Unchanged;
        }
        self.seen = now;
        self.reloaded()
    }

    /// Reads all sources, changed or not.
    pub fn reload_anyway(&mut self) -> Reload {
        self.seen = self.find();
        self.reloaded()
    }

    /// Keeps the name of the file that was last accepted for the next process, if it is another one
    /// than is kept. Each is tried once.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_name(&mut self) -> io::Result<()> {
        let Some(named) = &self.named else { return Ok(()) };
        if self.kept == self.accepted {
            return Ok(());
        }
        self.kept = self.accepted.clone();
        named.keep(self.accepted.as_ref())
    }

    fn reloaded(&mut self) -> Reload {
        let (found, choice) = (self.seen.clone(), self.choice.clone());
        if let Some(FoundConfig::File(file)) = &found {
            let had_content = self.content_at.as_ref() == Some(&file.text.path);
            if had_content && !file.is_null && !file::has_content(&file.text) {
                return match self.load_with(found.as_ref()) {
                    // A mistake in another source is told rather.
                    Err(refused) => Reload::Refused(refused),
                    Ok(_) => Reload::Refused(emptied(&file.text.path)),
                };
            }
        }
        match self.accept(found, choice) {
            Ok(loaded) => Reload::Loaded(Box::new(loaded)),
            Err(refused) => Reload::Refused(refused),
        }
    }

    /// Reads all sources with this file, and notes it as the one in force.
    fn accept(
        &mut self,
        found: Option<FoundConfig>,
        choice: Option<ConfigName>,
    ) -> Result<Loaded, ConfigError> {
        let loaded = self.load_with(found.as_ref())?;
        let text = found.as_ref().and_then(FoundConfig::text);
        self.content_at = text.filter(|text| file::has_content(text)).map(|text| text.path.clone());
        self.file = text.map(|text| text.path.clone());
        self.accepted = choice;
        Ok(loaded)
    }

    fn load_with(&self, found: Option<&FoundConfig>) -> Result<Loaded, ConfigError> {
        match (found, &self.named) {
            (Some(FoundConfig::NotChosen(why)), Some(named)) => {
                Err(refusal(named.name_file(), why))
            }
            _ => load(&self.sources, found.and_then(FoundConfig::text), Purpose::Serve),
        }
    }

    /// The file as it is now: that of the choice, which is looked at again.
    fn find(&mut self) -> Option<FoundConfig> {
        match self.named.as_ref().map(NamedConfigs::chosen) {
            Some(Ok(Some(choice))) => self.choice = choice,
            // Nobody has said anything yet, so that it stays.
            None | Some(Ok(None)) => {}
            Some(Err(why)) => return Some(FoundConfig::NotChosen(why)),
        }
        match self.choice.clone() {
            Some(name) => self.find_named(&name),
            None => self.find_own(),
        }
    }

    fn find_named(&self, name: &ConfigName) -> Option<FoundConfig> {
        Some(match self.named.as_ref()?.read(name) {
            Ok((path, content)) => {
                let text = FileText { path, content };
                FoundConfig::File(FoundFile { text, is_null: false })
            }
            Err(why) => FoundConfig::NotChosen(why),
        })
    }

    /// The file of flag and environment.
    fn find_own(&self) -> Option<FoundConfig> {
        self.path.as_deref().map(FoundFile::read).map(FoundConfig::File)
    }

    fn is_not_chosen(&self) -> bool {
        matches!(self.seen, Some(FoundConfig::NotChosen(_)))
    }
}

impl FoundConfig {
    fn text(&self) -> Option<&FileText> {
        match self {
            Self::File(file) => Some(&file.text),
            Self::NotChosen(_) => None,
        }
    }
}

/// There is no file as it was chosen.
fn refusal(name_file: &Path, problem: &str) -> ConfigError {
    let mut context = Context::default();
    context.report.file = Some(name_file.to_owned());
    context.mistake(Origin::File { line: 1 }, "", "", problem);
    ConfigError(context.report)
}

/// An empty file is one that somebody is about to write, so that it never means the defaults by
/// itself.
fn emptied(path: &Path) -> ConfigError {
    let problem = "the file is empty, as while it is being written; for the defaults write \
        `version: v1`, or link it to /dev/null";
    refusal(path, problem)
}
