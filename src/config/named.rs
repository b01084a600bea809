//! A directory of config files, such as a mounted ConfigMap, of which somebody else names one.
//!
//! Who names it may be less trusted than this process: a configuration names programs that run as
//! root. So nothing but the name comes from there, in a file that is read to a bound and without
//! following links, and what is opened by it is a regular file beneath the directory.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::file::read_start;
use crate::host::file::{self as host_file, Links};
use crate::host::root::resolve_in_root;

/// The longest name: that of a key of a ConfigMap (apimachinery, `IsConfigMapKey`).
const LONGEST_NAME: usize = 253;
/// How many names a message lists.
const LISTED: usize = 16;
/// How many entries of the directory are looked at for that.
const LOOKED_AT: usize = 1024;

/// The name of a config file in the directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConfigName(String);

impl ConfigName {
    /// A name that cannot lead out of a directory; `None`: it is none. It is that of a key of a
    /// ConfigMap, but for those that begin with a dot: the kubelet has directories of such names
    /// beside the keys.
    pub(super) fn new(text: &str) -> Option<Self> {
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let fits = (1..=LONGEST_NAME).contains(&text.len()) && !text.starts_with('.');
        (fits && text.chars().all(inside)).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for ConfigName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The directory, where the name stands, and where it is kept for the next process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedConfigs {
    directory: PathBuf,
    name_file: PathBuf,
    kept: Option<PathBuf>,
}

/// A named file: its path as it is shown, and its content or why that cannot be read.
pub(super) type NamedFile = (PathBuf, Result<Vec<u8>, String>);

impl NamedConfigs {
    /// The files of this directory, by the name in that file. It is kept in the state directory, if
    /// there is one.
    pub(super) fn new(directory: &str, name_file: &str, state_directory: &str) -> Option<Self> {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let kept = path(state_directory).map(|directory| directory.join("config-name"));
        Some(Self { directory: path(directory)?, name_file: path(name_file)?, kept })
    }

    /// The file with the name.
    pub(super) fn name_file(&self) -> &Path {
        &self.name_file
    }

    /// The path of a file by its name.
    pub(super) fn path(&self, name: &ConfigName) -> PathBuf {
        self.directory.join(&name.0)
    }

    /// The name that was chosen, the inner `None` being that none of the directory is; the outer
    /// one: nobody has said anything.
    ///
    /// # Errors
    /// What is there is no name, or cannot be read.
    pub(super) fn chosen(&self) -> Result<Option<Option<ConfigName>>, String> {
        read_name(&self.name_file)
    }

    /// The name that was kept by an earlier process. One that cannot be read counts as none.
    pub(super) fn kept(&self) -> Option<ConfigName> {
        read_name(self.kept.as_deref()?).ok().flatten().flatten()
    }

    /// Keeps a name for the next process, which may start before anybody can choose.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn keep(&self, name: Option<&ConfigName>) -> io::Result<()> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let text = name.map(|name| name.0.as_str()).unwrap_or_default();
        host_file::replace(kept, format!("{text}\n").as_bytes(), 0o600)
    }

    /// The file of a name. The links of a ConfigMap are followed, and none that leads out of the
    /// directory.
    ///
    /// # Errors
    /// There is no such file, with those that there are.
    pub(super) fn read(&self, name: &ConfigName) -> Result<NamedFile, String> {
        let beneath = match resolve_in_root(&self.directory, Path::new(&name.0)) {
            Ok(beneath) => beneath,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.absent(name)),
            Err(error) => return Ok((self.path(name), Err(error.to_string()))),
        };
        let content = host_file::open(&beneath, Links::Refuse).and_then(read_start);
        Ok((self.path(name), content.map_err(|error| error.to_string())))
    }

    fn absent(&self, name: &ConfigName) -> String {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().take(LOOKED_AT);
        let names = entries.filter_map(|entry| ConfigName::new(entry.ok()?.file_name().to_str()?));
        let mut names: Vec<_> = names.collect();
        names.sort();
        let mut listed: Vec<_> = names.iter().take(LISTED).map(ToString::to_string).collect();
        if names.len() > LISTED {
            listed.push(format!("and {} more", names.len() - LISTED));
        }
        let there = if listed.is_empty() { "nothing".to_owned() } else { listed.join(", ") };
        format!(
            "the configuration {name} is chosen, and there is none of that name in {}, but {there}",
            self.directory.display()
        )
    }
}

/// The name in a file: a line, or nothing.
fn read_name(file: &Path) -> Result<Option<Option<ConfigName>>, String> {
    let bytes = match host_file::read(file, Links::Refuse, LONGEST_NAME + 1) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("the name of a configuration cannot be read: {error}")),
    };
    let text = String::from_utf8_lossy(&bytes);
    match text.trim_end_matches('\n') {
        "" => Ok(Some(None)),
        text => ConfigName::new(text).map(|name| Some(Some(name))).ok_or_else(|| {
            let text = text.escape_debug();
            format!(
                "\"{text}\" is not the name of a configuration: letters, digits, '-', '_' and \
                 '.', which is not the first"
            )
        }),
    }
}
