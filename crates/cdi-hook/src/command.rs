//! The command line: the names and flags of NVIDIA's `nvidia-cdi-hook`.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use lexopt::{Arg, Parser, ValueExt};

use crate::error::HookError;
use crate::hook::{Hook, Link, MemoryLimit};
use crate::limits;
use crate::oci::StateSource;

/// What the command line may say.
pub const USAGE: &str = "\
Usage: gpu-cdi-hook [hook] NAME [FLAGS] [--container-spec FILE]

A container runtime calls it with the state of a container on standard input.

  create-symlinks                   --link TARGET::PATH ...
  update-ldcache                    --folder DIRECTORY ...
  chmod                             --mode OCTAL --path PATH ...
  enable-cuda-compat                --host-driver-version VERSION
  disable-device-node-modification
  update-application-profile
  apply-cuda-memory-limits          --limit PCI-ADDRESS=BYTES ...

  --container-spec FILE             reads the state from a file instead; -: standard input";

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Prints [`USAGE`].
    Help,
    /// Prints the version.
    Version,
    /// Runs a hook for the container whose state comes from there.
    Hook(Hook, StateSource),
}

/// The values of the flags, each in the order in which it was given.
#[derive(Default)]
struct Flags {
    links: Vec<String>,
    paths: Vec<String>,
    limits: Vec<String>,
    mode: Option<String>,
    host_driver_version: Option<String>,
    state: StateSource,
}

impl Command {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// It names no hook, or has a flag that the hook does not take.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, HookError> {
        let mut parser = Parser::from_iter(args);
        let usage = |error: lexopt::Error| HookError::Usage(error.to_string());
        let mut name = None;
        let mut flags = Flags::default();
        while let Some(arg) = parser.next().map_err(usage)? {
            match (arg, name.as_deref()) {
                (Arg::Long("help") | Arg::Short('h'), _) => return Ok(Self::Help),
                (Arg::Long("version") | Arg::Short('V'), None) => return Ok(Self::Version),
                // They change what NVIDIA's program logs, and this one says what it has to say.
                (Arg::Long("debug" | "quiet") | Arg::Short('d'), None) => {}
                (Arg::Value(value), None) => {
                    let value = value.string().map_err(usage)?;
                    // `nvidia-ctk hook NAME` is the older way to say it.
                    name = (value != "hook").then_some(value);
                }
                (Arg::Long(flag), Some(name)) => {
                    let flag = flag.to_owned();
                    let place = flags.place(name, &flag)?;
                    place.set(parser.value().and_then(ValueExt::string).map_err(usage)?)?;
                }
                (other, _) => return Err(usage(other.unexpected())),
            }
        }
        let Some(name) = name else { return Err(HookError::Usage(USAGE.to_owned())) };
        let state = std::mem::take(&mut flags.state);
        Ok(Self::Hook(flags.hook(&name)?, state))
    }
}

/// Where the value of a flag goes.
enum Place<'a> {
    List(&'a mut Vec<String>),
    One(&'a mut Option<String>),
    State(&'a mut StateSource),
    /// NVIDIA's hook needs it, and this one does not.
    Nowhere,
}

impl Place<'_> {
    fn set(self, value: String) -> Result<(), HookError> {
        match self {
            Self::List(list) if list.len() >= limits::ARGUMENTS => {
                return Err(HookError::Usage("there are too many arguments".to_owned()));
            }
            Self::List(list) => list.push(value),
            Self::One(one) => *one = Some(value),
            Self::State(state) => *state = StateSource::from(value),
            Self::Nowhere => {}
        }
        Ok(())
    }
}

impl Flags {
    fn place(&mut self, hook: &str, flag: &str) -> Result<Place<'_>, HookError> {
        Ok(match (hook, flag) {
            (_, "container-spec") => Place::State(&mut self.state),
            ("create-symlinks", "link") => Place::List(&mut self.links),
            ("update-ldcache", "folder") | ("chmod", "path") => Place::List(&mut self.paths),
            ("chmod", "mode") => Place::One(&mut self.mode),
            ("enable-cuda-compat", "host-driver-version") => {
                Place::One(&mut self.host_driver_version)
            }
            ("apply-cuda-memory-limits", "limit") => Place::List(&mut self.limits),
            ("update-ldcache", "ldconfig-path")
            | ("enable-cuda-compat", "host-cuda-version")
            | ("apply-cuda-memory-limits", "driver-root" | "gpu-id") => Place::Nowhere,
            _ => return Err(HookError::Usage(format!("{hook} has no flag --{flag}"))),
        })
    }

    fn hook(self, name: &str) -> Result<Hook, HookError> {
        Ok(match name {
            "create-symlinks" => Hook::CreateSymlinks(
                self.links.iter().map(|text| link(text)).collect::<Result<_, _>>()?,
            ),
            "update-ldcache" => Hook::UpdateLdcache(paths(&self.paths)?),
            "chmod" => {
                Hook::Chmod { mode: mode(self.mode.as_deref())?, paths: paths(&self.paths)? }
            }
            "enable-cuda-compat" => Hook::EnableCudaCompat {
                host_driver_major: self.host_driver_version.as_deref().map(major).transpose()?,
            },
            "disable-device-node-modification" => Hook::DisableDeviceNodeModification,
            "update-application-profile" => Hook::UpdateApplicationProfile,
            "apply-cuda-memory-limits" => {
                let limits = self.limits.iter().map(|text| memory_limit(text));
                Hook::ApplyCudaMemoryLimits(limits.collect::<Result<_, _>>()?)
            }
            _ => return Err(HookError::Usage(format!("there is no hook {name}\n{USAGE}"))),
        })
    }
}

fn link(text: &str) -> Result<Link, HookError> {
    let wrong = || HookError::Usage(format!("--link {text:?} is not TARGET::PATH"));
    let (target, path) = text.split_once("::").ok_or_else(wrong)?;
    if target.is_empty() || target.contains('\0') || path.contains("::") {
        return Err(wrong());
    }
    Ok(Link { target: target.into(), path: container_path(path)? })
}

fn paths(texts: &[String]) -> Result<Vec<PathBuf>, HookError> {
    texts.iter().map(|text| container_path(text)).collect()
}

/// A path in the container. `..` is refused: no specification needs it, and where a component is a
/// link it would not lead where it seems to.
fn container_path(text: &str) -> Result<PathBuf, HookError> {
    let path = Path::new(text);
    let is_plain = path.components().all(|part| !matches!(part, Component::ParentDir));
    let is_short = path.components().count() <= limits::PATH_COMPONENTS;
    if !path.is_absolute() || !is_plain || !is_short || text.contains(['\0', '\n']) {
        return Err(HookError::Usage(format!("{text:?} is no path in a container")));
    }
    Ok(path.to_owned())
}

/// Permissions alone: a specification that gives set-user-ID to what an image has is a mistake.
fn mode(text: Option<&str>) -> Result<u32, HookError> {
    let parsed = text.and_then(|text| u32::from_str_radix(text, 8).ok());
    parsed.filter(|mode| *mode <= 0o777).ok_or_else(|| {
        HookError::Usage(format!("--mode {text:?} is not three octal digits of permissions"))
    })
}

/// The first number of a driver's version, `580` of `580.95.05`.
fn major(version: &str) -> Result<u32, HookError> {
    let first = version.split('.').next().unwrap_or_default();
    let wrong = |_| HookError::Usage(format!("{version:?} is no version of a driver"));
    first.parse().map_err(wrong)
}

fn memory_limit(text: &str) -> Result<MemoryLimit, HookError> {
    let wrong = || HookError::Usage(format!("--limit {text:?} is not PCI-ADDRESS=BYTES"));
    let (address, bytes) = text.split_once('=').ok_or_else(wrong)?;
    let is_address = address.len() <= 32
        && address.contains(':')
        && address.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte));
    let bytes = bytes.parse().map_err(|_| wrong())?;
    is_address
        .then(|| MemoryLimit { address: address.to_ascii_lowercase(), bytes })
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests;
