//! The files with specifications when the plugin is uninstalled.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use device::cdi::CLASSES;
use memchr::memmem;

use super::json::{MOST_BYTES, OWN_START, file_name};
use crate::host::file::{self, Links};
use crate::host::written_file::{Fate, WrittenFile};

/// The most entries of a directory that are looked at.
const MOST_ENTRIES: usize = 4096;

/// The files of the plugin's kinds in a directory. Those that this program has written go, unless
/// `needed` says why they may not.
#[must_use]
pub fn written_files(directory: &Path, needed: Option<&str>) -> Vec<WrittenFile> {
    let names: Vec<String> = CLASSES.iter().map(|class| file_name(class)).collect();
    let found = entries(directory).into_iter().filter_map(|entry| {
        let name = entry.to_str()?;
        let path = directory.join(name);
        if names.iter().any(|own| own == name) {
            return Some(of_class(path, needed));
        }
        // What a process that was killed meanwhile has left.
        let is_leftover = names.iter().any(|own| name.starts_with(&format!("{own}.next-")));
        is_leftover.then(|| WrittenFile::remove(path))
    });
    found.collect()
}

fn of_class(path: PathBuf, needed: Option<&str>) -> WrittenFile {
    match file::read_start(&path, Links::Refuse, OWN_START.len()) {
        Ok(start) if start == OWN_START => {
            let fate = needed.map_or(Fate::Remove, |why| Fate::Needed(why.to_owned()));
            WrittenFile { path, fate }
        }
        Ok(_) => WrittenFile::keep(path, "another program has written it"),
        Err(error) => WrittenFile::keep(path, error.to_string()),
    }
}

/// A file of a directory, beside those at `but`, that names a program.
#[must_use]
pub fn naming(directory: &Path, but: &[&Path], program: &Path) -> Option<PathBuf> {
    let program = program.as_os_str().as_bytes();
    let paths = entries(directory).into_iter().map(|name| directory.join(name));
    let mut others = paths.filter(|path| !but.contains(&path.as_path()));
    others.find(|path| {
        let bytes = file::read(path, Links::Follow, MOST_BYTES);
        bytes.is_ok_and(|bytes| memmem::find(&bytes, program).is_some())
    })
}

/// The names in a directory, in their order; none where it cannot be read.
fn entries(directory: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(directory).into_iter().flatten().take(MOST_ENTRIES).flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_files_of_this_program_go_and_those_that_are_needed_stay() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let own = String::from_utf8(OWN_START.to_vec()).unwrap() + " \"x\"}";
        fs::write(at(&file_name("gpu")), &own).unwrap();
        fs::write(at(&format!("{}.next-01", file_name("gpu"))), "half of one").unwrap();
        fs::write(at(&file_name("gds")), "{\n  \"cdiVersion\": \"0.5.0\"}").unwrap();
        fs::write(at("victim"), &own).unwrap();
        symlink(at("victim"), at(&file_name("mofed"))).unwrap();
        fs::write(at("nvidia.yaml"), "path: /hook/gpu-cdi-hook-1\n").unwrap();
        let fates = |needed| {
            let of = |file: WrittenFile| {
                let name = file.path.file_name().unwrap().to_str().unwrap().to_owned();
                (name.replace("k8s.device-plugin.nvidia.com-", ""), file.fate)
            };
            written_files(place.path(), needed).into_iter().map(of).collect::<Vec<_>>()
        };
        let keep = |why: &str| Fate::Keep(why.to_owned());
        let others = [
            ("gds.json".to_owned(), keep("another program has written it")),
            ("gpu.json".to_owned(), Fate::Remove),
            ("gpu.json.next-01".to_owned(), Fate::Remove),
            ("mofed.json".to_owned(), keep("it is a symbolic link, not a regular file")),
        ];
        assert_eq!(fates(None), others);
        let held = fates(Some("pods hold GPUs"));
        assert_eq!(held[1].1, Fate::Needed("pods hold GPUs".to_owned()));
        assert_eq!(held.len(), 4);
        let program = Path::new("/hook/gpu-cdi-hook-1");
        assert_eq!(naming(place.path(), &[], program), Some(at("nvidia.yaml")));
        assert_eq!(naming(place.path(), &[&at("nvidia.yaml")], program), None);
        assert_eq!(written_files(&at("none"), None), []);
    }
}
