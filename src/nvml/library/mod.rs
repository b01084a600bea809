//! Where libnvidia-ml.so.1 is: in the driver's root, on the loader's path, or in the driver root's
//! ld.so cache.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use device::health::{NvmlError as CallError, ReturnCode};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::session::call_error;
use crate::host::root::resolve_in_root;

/// The library's name, with the only version that there has ever been.
const SONAME: &str = "libnvidia-ml.so.1";

/// Directories of a driver root, most usual first: distributions, then images made for containers,
/// then Talos (/usr/local/glibc), NixOS (/run/opengl-driver) and vendors' own places.
const DIRECTORIES: [&str; 12] = [
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "usr/lib",
    "usr/local/nvidia/lib64",
    "usr/local/glibc/usr/lib",
    "run/opengl-driver/lib",
    "opt/nvidia/lib64",
    "home/kubernetes/bin/nvidia/lib64",
];

/// Why NVML cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum NvmlOpenError {
    /// No library could be loaded.
    NotFound {
        /// Each place that was tried, with what was there.
        tried: Vec<(String, String)>,
        /// The driver root that was searched; `None` if the library was named.
        driver_root: Option<PathBuf>,
    },
    /// The library is there, and does not come up.
    Init {
        /// The library.
        library: String,
        /// Its answer.
        error: CallError,
    },
}

impl fmt::Display for NvmlOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { tried, driver_root: None } => {
                write!(f, "cannot load NVML from the library that --nvml-library names:")?;
                write_tried(f, tried)?;
                write!(
                    f,
                    "; name the {SONAME} of the driver that is loaded, or leave the option away"
                )
            }
            Self::NotFound { tried, driver_root: Some(root) } => {
                write!(f, "cannot load NVML ({SONAME}), tried:")?;
                write_tried(f, tried)?;
                write!(
                    f,
                    "; if this node has NVIDIA GPUs, install the driver on it, then mount its root \
                     at {} or start this container with the NVIDIA runtime, or name the library \
                     with --nvml-library; if it has none, keep the plugin off it with a node \
                     selector, or let it wait with --fail-on-init-error=false",
                    root.display()
                )
            }
            Self::Init { library, error } => {
                write!(f, "NVML does not come up: {error}; library {library}")?;
                match error.code {
                    ReturnCode::DRIVER_NOT_LOADED => write!(
                        f,
                        "; load the driver's kernel module (modprobe nvidia) and see \
                         /dev/nvidiactl and /dev/nvidia0 in this container: it must be privileged \
                         or have the NVIDIA runtime"
                    ),
                    ReturnCode::LIBRARY_MISMATCH => {
                        write!(
                            f,
                            "; the driver was upgraded under a loaded module: reboot, or reload \
                                the module"
                        )
                    }
                    _ => write!(
                        f,
                        "; `nvidia-smi` on the node and the kernel log (dmesg, NVRM) tell more"
                    ),
                }
            }
        }
    }
}

impl std::error::Error for NvmlOpenError {}

fn write_tried(f: &mut fmt::Formatter<'_>, tried: &[(String, String)]) -> fmt::Result {
    for (n, (place, outcome)) in tried.iter().enumerate() {
        write!(f, "{} {place} ({outcome})", if n == 0 { "" } else { "," })?;
    }
    Ok(())
}

/// NVML, loaded and initialised.
pub(super) struct Opened {
    pub(super) nvml: Box<Nvml>,
    /// The library, as it was given to the loader.
    pub(super) library: String,
    /// The places that were tried before, with what was there.
    pub(super) tried: Vec<(String, String)>,
}

/// Loads and initialises NVML: the named library, or the first that loads of the usual places.
///
/// # Errors
/// None of them loads, or the one that does cannot be initialised.
pub(super) fn open(named: Option<&Path>, driver_root: &Path) -> Result<Opened, NvmlOpenError> {
    let mut tried = Vec::new();
    if let Some(library) = named {
        return match attempt(library.as_os_str(), &mut tried)? {
            Some(nvml) => Ok(Opened { nvml, library: library.display().to_string(), tried }),
            None => Err(NvmlOpenError::NotFound { tried, driver_root: None }),
        };
    }
    let mut absent = Vec::new();
    for directory in DIRECTORIES {
        let library = Path::new(directory).join(SONAME);
        match resolve_in_root(driver_root, &library) {
            Ok(library) => {
                if let Some(nvml) = attempt(library.as_os_str(), &mut tried)? {
                    return Ok(Opened { nvml, library: library.display().to_string(), tried });
                }
            }
            Err(error) if driver_root.join(&library).is_symlink() => {
                let place = driver_root.join(&library).display().to_string();
                tried.push((place, format!("a symlink that leads nowhere in that root: {error}")));
            }
            Err(_) => absent.push(directory),
        }
    }
    if !absent.is_empty() {
        tried.push((
            format!("{}/{{{}}}", driver_root.display(), absent.join(",")),
            "not there".to_owned(),
        ));
    }
    if let Some(nvml) = attempt(OsStr::new(SONAME), &mut tried)? {
        return Ok(Opened { nvml, library: SONAME.to_owned(), tried });
    }
    let cache = driver_root.join("etc/ld.so.cache");
    match resolve_in_root(driver_root, Path::new("etc/ld.so.cache")).and_then(std::fs::read) {
        Err(error) => tried.push((cache.display().to_string(), error.to_string())),
        Ok(bytes) => {
            let entries = cached(&bytes, SONAME);
            if entries.is_empty() {
                tried.push((cache.display().to_string(), "does not name it".to_owned()));
            }
            for entry in entries {
                // The cache speaks of paths inside the root that it was made for.
                let library = resolve_in_root(driver_root, &entry).unwrap_or_else(|_| {
                    driver_root.join(entry.strip_prefix("/").unwrap_or(&entry))
                });
                if let Some(nvml) = attempt(library.as_os_str(), &mut tried)? {
                    return Ok(Opened { nvml, library: library.display().to_string(), tried });
                }
            }
        }
    }
    Err(NvmlOpenError::NotFound { tried, driver_root: Some(driver_root.to_owned()) })
}

/// Tries one library: `None`, and a word in `tried`, if it cannot be loaded as NVML.
fn attempt(
    library: &OsStr,
    tried: &mut Vec<(String, String)>,
) -> Result<Option<Box<Nvml>>, NvmlOpenError> {
    let place = library.display().to_string();
    match initialise(library) {
        Ok(nvml) => Ok(Some(nvml)),
        Err(NvmlError::LibloadingError(error)) => {
            // The loader's text begins with the path, which stands there already.
            let text = error.to_string();
            tried.push((
                place.clone(),
                text.strip_prefix(&format!("{place}: ")).unwrap_or(&text).to_owned(),
            ));
            Ok(None)
        }
        Err(NvmlError::FailedToLoadSymbol(_)) => {
            tried.push((place, "a library without nvmlInit_v2: not NVML".to_owned()));
            Ok(None)
        }
        Err(error) => {
            Err(NvmlOpenError::Init { library: place, error: call_error("nvmlInit_v2", &error) })
        }
    }
}

/// Loads a library and initialises it, on a thread of its own for the sake of memory: the table of
/// some four hundred functions passes over the stack a few times, and what a thread that lives on
/// has once touched stays resident.
fn initialise(library: &OsStr) -> Result<Box<Nvml>, NvmlError> {
    let open = || Nvml::builder().lib_path(library).init().map(Box::new);
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("nvml-open".to_owned()).spawn_scoped(scope, open);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            // Without another thread it takes more memory, and no more than that.
            Err(_) => open(),
        }
    })
}

/// Begins the part of /etc/ld.so.cache that glibc has written since 2.2 (elf/cache.c, struct
/// cache_file_new).
const CACHE_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const CACHE_HEADER: usize = 48;
const CACHE_ENTRY: usize = 24;

/// Paths that an ld.so.cache has for a library of this machine's kind. A cache that is cut short or
/// is none at all has none.
fn cached(cache: &[u8], soname: &str) -> Vec<PathBuf> {
    // FLAG_ELF_LIBC6 with FLAG_X8664_LIB64 or FLAG_AARCH64_LIB64 (sysdeps/generic/ldconfig.h).
    let machine: u32 = if cfg!(target_arch = "aarch64") { 0x0a03 } else { 0x0303 };
    let Some(start) = cache.windows(CACHE_MAGIC.len()).position(|window| window == CACHE_MAGIC)
    else {
        return Vec::new();
    };
    let cache = &cache[start..];
    let number = |at: usize| -> Option<u32> {
        cache.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes)
    };
    let string = |at: usize| -> Option<&str> {
        let text = cache.get(at..)?;
        std::str::from_utf8(&text[..text.iter().position(|byte| *byte == 0)?]).ok()
    };
    let entry = |n: usize| -> Option<(u32, &str, &str)> {
        let at = CACHE_HEADER + n * CACHE_ENTRY;
        Some((number(at)?, string(number(at + 4)? as usize)?, string(number(at + 8)? as usize)?))
    };
    (0..number(CACHE_MAGIC.len()).unwrap_or(0) as usize)
        .map_while(entry)
        .filter(|(flags, name, _)| *flags == machine && *name == soname)
        .map(|(_, _, path)| PathBuf::from(path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache as ldconfig writes it: flags, name and path of each library.
    fn cache(libraries: &[(u32, &str, &str)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let mut entries = Vec::new();
        let first = CACHE_HEADER + libraries.len() * CACHE_ENTRY;
        for (flags, name, path) in libraries {
            let mut place = |text: &str| {
                let at = first + strings.len();
                strings.extend(text.bytes().chain([0]));
                u32::try_from(at).unwrap().to_ne_bytes()
            };
            entries.extend(
                flags
                    .to_ne_bytes()
                    .into_iter()
                    .chain(place(name))
                    .chain(place(path))
                    .chain([0; 12]),
            );
        }
        let mut cache = b"ld.so-1.7.0\0an older part".to_vec();
        cache.extend(CACHE_MAGIC);
        cache.extend(u32::try_from(libraries.len()).unwrap().to_ne_bytes());
        cache.extend([0; CACHE_HEADER - CACHE_MAGIC.len() - 4]);
        cache.into_iter().chain(entries).chain(strings).collect()
    }

    #[test]
    fn the_cache_gives_the_libraries_of_this_machine_only() {
        let bytes = cache(&[
            (0x0303, SONAME, "/opt/driver/64/libnvidia-ml.so.1"),
            (0x0003, SONAME, "/opt/driver/32/libnvidia-ml.so.1"),
            (0x0303, "libc.so.6", "/lib/libc.so.6"),
        ]);
        let expected: Vec<PathBuf> = if cfg!(target_arch = "x86_64") {
            vec!["/opt/driver/64/libnvidia-ml.so.1".into()]
        } else {
            vec![]
        };
        assert_eq!(cached(&bytes, SONAME), expected);
        for cut in 0..bytes.len() {
            assert!(cached(&bytes[..cut], SONAME).len() <= expected.len());
        }
        assert!(cached(b"", SONAME).is_empty());
    }

    #[test]
    fn what_is_missing_is_told_with_every_place_that_was_tried() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("usr/lib64")).unwrap();
        std::fs::write(root.path().join("usr/lib64").join(SONAME), "not a library").unwrap();
        std::fs::create_dir_all(root.path().join("usr/lib/x86_64-linux-gnu")).unwrap();
        let link = root.path().join("usr/lib/x86_64-linux-gnu").join(SONAME);
        std::os::unix::fs::symlink("/etc/alternatives/nvml", link).unwrap();
        let Err(error) = open(None, root.path()) else { panic!("there is no NVML in it") };
        let text = error.to_string();
        for part in [
            "usr/lib64/libnvidia-ml.so.1 (",
            "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1 (a symlink that leads nowhere in that \
                root: No such file",
            "lib64,lib/x86_64",
            "etc/ld.so.cache (",
            "--nvml-library",
        ] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
        let Err(error) = open(Some(Path::new("/nowhere/libnvidia-ml.so.1")), root.path()) else {
            panic!()
        };
        assert!(
            error
                .to_string()
                .contains("/nowhere/libnvidia-ml.so.1 (cannot open shared object file"),
            "{error}"
        );
    }
}
