//! The driver's programs: below the root of its installation, else where the container runtime has
//! put them.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use tokio::process::Command;

use crate::host::driver_files::places::{BINARY_DIRECTORIES, LIBRARY_DIRECTORIES};
use crate::host::root::resolve_in_root;

/// The name of the control program, which is the daemon's too.
pub(super) const CONTROL: &str = "nvidia-cuda-mps-control";
/// What the programs load by name: the MPS server CUDA, and nvidia-smi NVML.
const LIBRARIES: [&str; 3] = ["libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1"];

/// How the driver's programs are started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriverPrograms {
    /// The root of the driver's installation, as we see it; `None`: only the path is looked at.
    root: Option<PathBuf>,
    /// A directory with links to the driver's libraries alone. With all libraries of the node in
    /// its path, a program would get the node's C library under the loader of this container.
    libraries: Option<PathBuf>,
    /// The value of PATH for them; `None`: that of this process.
    path: Option<OsString>,
}

/// The directories in the root of an installation that may have the driver's programs.
pub fn directories(root: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    BINARY_DIRECTORIES.iter().map(|directory| root.join(directory))
}

impl DriverPrograms {
    /// The programs of the driver whose root is mounted here.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: Some(root.to_owned()), libraries: None, path: None }
    }

    /// The same with this PATH: the control daemon starts nvidia-cuda-mps-server by its name.
    #[must_use]
    pub fn with_path(self, path: Option<OsString>) -> Self {
        Self { path, ..self }
    }

    /// The same with links to the driver's libraries in a directory, which is made.
    ///
    /// # Errors
    /// The file system's.
    pub fn with_libraries(mut self, directory: &Path) -> io::Result<Self> {
        let Some(root) = &self.root else { return Ok(self) };
        // In a root of its own it has them where the loader looks.
        if root == Path::new("/") {
            return Ok(self);
        }
        fs::create_dir_all(directory)?;
        let mut found = false;
        for name in LIBRARIES {
            let places = LIBRARY_DIRECTORIES.iter();
            let mut places = places.map(|place| Path::new(place).join(name));
            let library = places.find_map(|place| resolve_in_root(root, &place).ok());
            let link = directory.join(name);
            let _ = fs::remove_file(&link);
            if let Some(library) = library {
                std::os::unix::fs::symlink(library, link)?;
                found = true;
            }
        }
        self.libraries = found.then(|| directory.to_owned());
        Ok(self)
    }

    /// Where the control program is: below the root, else in one of the directories of `path`.
    #[must_use]
    pub fn control_program(&self, path: &[PathBuf]) -> Option<PathBuf> {
        let on_path = || path.iter().map(|directory| directory.join(CONTROL));
        self.find(CONTROL).or_else(|| on_path().find(|file| can_run(file)))
    }

    /// A command that starts one of them.
    pub(super) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.find(name).unwrap_or_else(|| name.into()));
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        command
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        let root = self.root.as_ref()?;
        let found = BINARY_DIRECTORIES
            .iter()
            .filter_map(|directory| resolve_in_root(root, &Path::new(directory).join(name)).ok());
        found.into_iter().find(|file| can_run(file))
    }
}

fn can_run(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|of| of.is_file() && of.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_the_driver_root_comes_before_one_on_the_path() {
        let root = tempfile::tempdir().unwrap();
        let programs = DriverPrograms::at(root.path());
        assert_eq!(programs.command("nvidia-smi").as_std().get_program(), "nvidia-smi");
        let bin = root.path().join("usr/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join("nvidia-smi"), "").unwrap();
        assert_eq!(programs.command("nvidia-smi").as_std().get_program(), "nvidia-smi");
        fs::set_permissions(bin.join("nvidia-smi"), fs::Permissions::from_mode(0o755)).unwrap();
        let found = programs.command("nvidia-smi");
        assert_eq!(found.as_std().get_program(), bin.join("nvidia-smi").as_os_str());
    }

    #[test]
    fn the_control_program_is_below_the_root_or_on_the_path() {
        let root = tempfile::tempdir().unwrap();
        let (programs, path) = (DriverPrograms::at(root.path()), [root.path().join("path")]);
        assert_eq!(programs.control_program(&path), None);
        for directory in [path[0].clone(), root.path().join("usr/bin")] {
            fs::create_dir_all(&directory).unwrap();
            let file = directory.join(CONTROL);
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
            assert_eq!(programs.control_program(&path), Some(file));
        }
    }

    #[test]
    fn only_the_drivers_libraries_are_in_the_path_of_libraries() {
        let root = tempfile::tempdir().unwrap();
        let lib = root.path().join("usr/lib64");
        fs::create_dir_all(&lib).unwrap();
        fs::write(lib.join("libcuda.so.1"), "").unwrap();
        fs::write(lib.join("libc.so.6"), "").unwrap();
        let links = root.path().join("links");
        let programs = DriverPrograms::at(root.path()).with_libraries(&links).unwrap();
        let names: Vec<_> =
            fs::read_dir(&links).unwrap().map(|of| of.unwrap().file_name()).collect();
        assert_eq!(names, ["libcuda.so.1"]);
        let command = programs.command("nvidia-smi");
        let mut variables = command.as_std().get_envs();
        assert_eq!(variables.next().unwrap().1, Some(links.as_os_str()));
    }
}
