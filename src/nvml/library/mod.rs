//! Finds and loads libnvidia-ml.so.1: in the driver's root, on the loader's path, or by the ld.so
//! cache of the driver's root.

mod ld_cache;
mod open_error;

use std::ffi::OsStr;
use std::path::Path;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::session::call_error;
use crate::host::driver_files::places::LIBRARY_DIRECTORIES;
use crate::host::file::{self, Links};
use crate::host::root::resolve_in_root;
use ld_cache::cached;
pub use open_error::NvmlOpenError;
use open_error::SONAME;

/// Of a cache of the loader, in bytes: that of a host with many packages has some 200 KiB.
const MOST_CACHE: usize = 16 << 20;

/// NVML, loaded and initialised.
pub(super) struct LoadedNvml {
    pub(super) nvml: Box<Nvml>,
    /// The library, as it was given to the loader.
    pub(super) library: String,
    /// The paths that were tried before, each with its error.
    pub(super) tried: Tried,
}

/// Paths that were tried, each with its error.
type Tried = Vec<(String, String)>;

/// A library that could be loaded, as it was given to the loader.
type Loaded = (Box<Nvml>, String);

/// Loads and initialises NVML: the named library, or the first that loads of the usual ones.
///
/// # Errors
/// None of them loads, or the one that does cannot be initialised.
pub(super) fn open(named: Option<&Path>, driver_root: &Path) -> Result<LoadedNvml, NvmlOpenError> {
    let mut tried = Tried::new();
    let loaded = match named {
        Some(library) => load(library.as_os_str(), &mut tried)?,
        None => search(driver_root, &mut tried)?,
    };
    match loaded {
        Some((nvml, library)) => Ok(LoadedNvml { nvml, library, tried }),
        None => {
            let driver_root = named.is_none().then(|| driver_root.to_owned());
            Err(NvmlOpenError::NotFound { tried, driver_root })
        }
    }
}

fn search(driver_root: &Path, tried: &mut Tried) -> Result<Option<Loaded>, NvmlOpenError> {
    if let Some(loaded) = search_directories(driver_root, tried)? {
        return Ok(Some(loaded));
    }
    if let Some(loaded) = load(OsStr::new(SONAME), tried)? {
        return Ok(Some(loaded));
    }
    search_cache(driver_root, tried)
}

fn search_directories(
    driver_root: &Path,
    tried: &mut Tried,
) -> Result<Option<Loaded>, NvmlOpenError> {
    let mut absent = Vec::new();
    for directory in LIBRARY_DIRECTORIES {
        let library = Path::new(directory).join(SONAME);
        match resolve_in_root(driver_root, &library) {
            Ok(library) => {
                if let Some(loaded) = load(library.as_os_str(), tried)? {
                    return Ok(Some(loaded));
                }
            }
            Err(error) if driver_root.join(&library).is_symlink() => {
                let path = driver_root.join(&library).display().to_string();
                tried.push((path, format!("a broken symlink in that root: {error}")));
            }
            Err(_) => absent.push(directory),
        }
    }
    if !absent.is_empty() {
        let paths = format!("{}/{{{}}}", driver_root.display(), absent.join(","));
        tried.push((paths, "not there".to_owned()));
    }
    Ok(None)
}

fn search_cache(driver_root: &Path, tried: &mut Tried) -> Result<Option<Loaded>, NvmlOpenError> {
    let cache = driver_root.join("etc/ld.so.cache").display().to_string();
    let bytes = resolve_in_root(driver_root, Path::new("etc/ld.so.cache"))
        .and_then(|path| file::read(&path, Links::Refuse, MOST_CACHE));
    let entries = match bytes {
        Ok(bytes) => cached(&bytes, SONAME),
        Err(error) => {
            tried.push((cache, error.to_string()));
            return Ok(None);
        }
    };
    if entries.is_empty() {
        tried.push((cache, "has no entry for it".to_owned()));
    }
    for entry in entries {
        // The paths in the cache are relative to the root that it was made for.
        let library = resolve_in_root(driver_root, &entry)
            .unwrap_or_else(|_| driver_root.join(entry.strip_prefix("/").unwrap_or(&entry)));
        if let Some(loaded) = load(library.as_os_str(), tried)? {
            return Ok(Some(loaded));
        }
    }
    Ok(None)
}

/// Loads one library: `None`, and its error in `tried`, if it cannot be loaded as NVML.
fn load(library: &OsStr, tried: &mut Tried) -> Result<Option<Loaded>, NvmlOpenError> {
    let path = library.display().to_string();
    // The loader would wait for the writer of a pipe. What is not there is its own to say.
    if let Some(error) = not_a_file(library) {
        tried.push((path, error.to_string()));
        return Ok(None);
    }
    match initialise(library) {
        Ok(nvml) => Ok(Some((nvml, path))),
        Err(NvmlError::LibloadingError(error)) => {
            // The loader's message begins with the path, which is stated already.
            let text = error.to_string();
            let text = text.strip_prefix(&format!("{path}: ")).unwrap_or(&text).to_owned();
            tried.push((path, text));
            Ok(None)
        }
        Err(NvmlError::FailedToLoadSymbol(_)) => {
            tried.push((path, "a library without nvmlInit_v2: not NVML".to_owned()));
            Ok(None)
        }
        Err(error) => {
            let error = call_error("nvmlInit_v2", &error);
            Err(NvmlOpenError::Init { library: path, error })
        }
    }
}

/// Why a path is not that of a regular file; a plain name is looked for by the loader.
fn not_a_file(library: &OsStr) -> Option<std::io::Error> {
    let path = Path::new(library).has_root().then_some(Path::new(library))?;
    file::open(path, Links::Follow).err().filter(file::is_of_content)
}

/// Loads a library and initialises it. The table of some four hundred functions is moved over the
/// stack a few times.
fn initialise(library: &OsStr) -> Result<Box<Nvml>, NvmlError> {
    Nvml::builder().lib_path(library).init().map(Box::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_where_distributions_have_it_is_searched() {
        for directory in [
            "usr/local/glibc/lib",
            "usr/lib/wsl/lib",
            "var/lib/nvidia/lib64",
            "lib",
            "usr/lib64/nvidia",
            "usr/lib/aarch64-linux-gnu/nvidia",
        ] {
            let root = tempfile::tempdir().unwrap();
            let library = root.path().join(directory).join(SONAME);
            std::fs::create_dir_all(library.parent().unwrap()).unwrap();
            std::fs::write(&library, "not a library").unwrap();
            let Err(error) = open(None, root.path()) else { panic!("there is no NVML in it") };
            let tried = format!("{} (", library.display());
            assert!(error.to_string().contains(&tried), "{tried} is not in {error}");
        }
    }

    #[test]
    fn a_missing_library_is_reported_with_every_path_that_was_tried() {
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
            "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1 (a broken symlink in that root: No \
                such file",
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

    #[test]
    fn pipes_in_place_of_files_are_reported_and_not_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};

        let root = tempfile::tempdir().unwrap();
        let library = "usr/lib64/libnvidia-ml.so.1";
        for pipe in [library, "etc/ld.so.cache"].map(|path| root.path().join(path)) {
            std::fs::create_dir_all(pipe.parent().unwrap()).unwrap();
            mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        }
        for asked in [None, Some(root.path().join(library))] {
            let Err(error) = open(asked.as_deref(), root.path()) else { panic!("no NVML there") };
            let text = error.to_string();
            assert!(text.contains("libnvidia-ml.so.1 (it is a FIFO"), "{text}");
            let cache = "etc/ld.so.cache (it is a FIFO";
            assert!(asked.is_some() || text.contains(cache), "{text}");
        }
    }
}
