//! Hands the name of a configuration over to the plugin, in a file.
//!
//! A file, and not a request to the plugin: it is there when either of the two starts again, the
//! plugin reads it as it reads its config file, and there is nothing else in it that one could ask
//! for. The plugin looks the name up in a directory of its own, so that whoever holds this process
//! chooses among what is there, and nothing more.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::info;

use super::choice::{Choice, choose};
use super::directory::names;
use crate::args::ConfigArgs;
use crate::keep::Target;
use crate::outputs::{on_scratch_thread, replace};
use crate::retry::Failure;

/// The most that is read of the file, in bytes.
const MAX_READ: u64 = 1024;

/// The file with the name.
pub struct NameFile {
    args: ConfigArgs,
    path: PathBuf,
    told: Option<Choice>,
}

impl NameFile {
    /// The file that the arguments name.
    #[must_use]
    pub fn new(args: &ConfigArgs) -> Self {
        Self { args: args.clone(), path: args.config_name_file.clone().into(), told: None }
    }

    /// What is in the file, and what is to be in it.
    async fn compare(&mut self, label: &str) -> Result<(Option<String>, String), Failure> {
        let (args, path, label) = (self.args.clone(), self.path.clone(), label.to_owned());
        let (there, chosen) = on_scratch_thread(move || {
            let there = read(&path);
            let names = match &args.source() {
                Some(directory) => names(directory).map_err(|error| {
                    format!("reading {} (--config-file-srcdir): {error}", directory.display())
                })?,
                None => BTreeSet::new(),
            };
            let fallbacks = &args.fallback_strategies.0;
            Ok::<_, String>((there, choose(Some(&label), &args.default_config, fallbacks, &names)))
        })
        .await??;
        // Without a name the plugin has its own --config-file.
        let name = match &chosen {
            Choice::Named(name) => name.as_str(),
            Choice::Empty | Choice::Nothing => "",
        };
        let wanted = format!("{name}\n");
        if self.told.as_ref() != Some(&chosen) {
            info!(name, "the configuration of this node is chosen");
            self.told = Some(chosen);
        }
        Ok((there, wanted))
    }
}

impl Target for NameFile {
    type Wanted = String;
    const WHAT: &'static str = "the contents of --config-name-file";
    // It is nothing to the API server, and somebody waits for it.
    const BETWEEN_WRITES: Duration = Duration::from_secs(1);

    async fn is_there(&mut self, label: &String) -> Result<bool, Failure> {
        let (there, wanted) = self.compare(label).await?;
        Ok(there == Some(wanted))
    }

    async fn write(&mut self, label: &String) -> Result<(), Failure> {
        let (there, wanted) = self.compare(label).await?;
        if there.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let path = self.path.clone();
        let written = on_scratch_thread(move || replace(&path, &wanted)).await?;
        written.map_err(|error| format!("writing {}: {error}", self.path.display()).into())
    }
}

/// The text of the file; `None`: it cannot be read, so that it is written again.
fn read(path: &Path) -> Option<String> {
    let file = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    let read = |file: io::Result<File>| {
        let mut text = String::new();
        file?.take(MAX_READ).read_to_string(&mut text).map(|_| text)
    };
    (file.len() <= MAX_READ).then(|| read(File::open(path)).ok()).flatten()
}
