//! What a runtime says of a container: the state on standard input, and `config.json` in the
//! bundle (OCI runtime specification, runtime.md "State" and config.md "Root").

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::HookError;
use crate::limits;

/// Where the state of the container comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StateSource {
    /// Standard input, as a runtime hands it over.
    #[default]
    Input,
    /// A file.
    File(PathBuf),
}

impl From<String> for StateSource {
    fn from(text: String) -> Self {
        if text.is_empty() || text == "-" { Self::Input } else { Self::File(text.into()) }
    }
}

/// A container that is being made.
#[derive(Debug, Deserialize)]
pub(crate) struct Container {
    bundle: PathBuf,
    pid: Option<u32>,
}

#[derive(Deserialize)]
struct Config {
    root: Root,
}

#[derive(Deserialize)]
struct Root {
    path: PathBuf,
}

impl Container {
    /// Reads the state.
    pub(crate) fn read(source: StateSource, input: &mut dyn Read) -> Result<Self, HookError> {
        let bytes = match &source {
            StateSource::Input => bounded(input, limits::STATE_BYTES),
            StateSource::File(path) => {
                File::open(path).and_then(|mut file| bounded(&mut file, limits::STATE_BYTES))
            }
        };
        let state = |error: &dyn std::fmt::Display| {
            HookError::State(format!("the state of the container cannot be read: {error}"))
        };
        let bytes = bytes.map_err(|error| state(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| state(&error))
    }

    /// The path of its root on the host.
    pub(crate) fn root(&self) -> Result<PathBuf, HookError> {
        let path = self.bundle.join("config.json");
        if !self.bundle.is_absolute() {
            let bundle = self.bundle.display();
            return Err(HookError::State(format!("the bundle {bundle} is no absolute path")));
        }
        let mut file = File::open(&path).map_err(HookError::file("open", &path))?;
        let bytes = bounded(&mut file, limits::CONFIG_BYTES);
        let bytes = bytes.map_err(HookError::file("read", &path))?;
        let config: Config = serde_json::from_slice(&bytes)
            .map_err(|error| HookError::State(format!("{}: {error}", path.display())))?;
        if config.root.path == Path::new("") {
            return Err(HookError::State(format!("{}: root.path is empty", path.display())));
        }
        Ok(self.bundle.join(config.root.path))
    }

    /// The container's first process, as the runtime sees it.
    pub(crate) fn pid(&self) -> Result<u32, HookError> {
        let no_pid = || HookError::State("the state of the container has no pid".to_owned());
        self.pid.filter(|pid| *pid > 0).ok_or_else(no_pid)
    }
}

/// All that is to be read, if it is no more than `most` bytes.
fn bounded(from: &mut dyn Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
