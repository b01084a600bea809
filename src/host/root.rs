//! Paths in another root: that of a driver installation that is mounted in our container. Its
//! symlinks are relative to that root (Debian's alternatives, NixOS's profiles); the system would
//! follow them in ours.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

/// Most symlinks on the way to one file (the kernel's own limit, path_resolution(7)).
const LINKS: usize = 40;

/// Our path of `path` in `root`, with every symlink followed as for a process in that root. Nothing
/// leads out of it: `..` of the root is the root.
///
/// # Errors
/// Nothing is at the path, it cannot be read, or it has too many symlinks.
pub fn resolve_in_root(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut left: VecDeque<OsString> = parts(path).collect();
    let mut at = PathBuf::new();
    let mut links = 0;
    while let Some(part) = left.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        let here = root.join(&at).join(&part);
        if !fs::symlink_metadata(&here)?.is_symlink() {
            at.push(part);
            continue;
        }
        links += 1;
        if links > LINKS {
            return Err(io::Error::other(format!("more than {LINKS} symlinks on the way to it")));
        }
        let target = fs::read_link(&here)?;
        if target.is_absolute() {
            at = PathBuf::new();
        }
        parts(&target).rev().for_each(|part| left.push_front(part));
    }
    Ok(root.join(at))
}

/// The names in a path, `..` among them.
fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A root with a library in `opt/driver`, and some links: name and target.
    fn root(links: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for directory in ["opt/driver", "usr/lib", "etc/alternatives"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        fs::write(root.path().join("opt/driver/lib.so.570"), "").unwrap();
        for (name, target) in links {
            symlink(target, root.path().join(name)).unwrap();
        }
        root
    }

    #[test]
    fn links_mean_places_in_the_root_that_they_are_in() {
        for links in [
            &[("usr/lib/lib.so", "/opt/driver/lib.so.570")][..],
            &[("usr/lib/lib.so", "../../opt/driver/lib.so.570")],
            // More ways up than there are: the top stays the top.
            &[("usr/lib/lib.so", "../../../../../../../../../../opt/driver/lib.so.570")],
            &[
                ("usr/lib/lib.so", "/etc/alternatives/lib"),
                ("etc/alternatives/lib", "/opt/driver/lib.so.570"),
            ],
            &[("usr/lib/lib.so", "/current/lib.so.570"), ("current", "/opt/./driver")],
            &[("usr/lib/lib.so", "./sub/lib.so.570"), ("usr/lib/sub", "/opt/driver/../driver")],
        ] {
            let root = root(links);
            let found = resolve_in_root(root.path(), Path::new("usr/lib/lib.so")).unwrap();
            assert_eq!(found, root.path().join("opt/driver/lib.so.570"), "{links:?}");
        }
        let root = root(&[]);
        assert_eq!(
            resolve_in_root(root.path(), Path::new("/opt/driver")).unwrap(),
            root.path().join("opt/driver")
        );
        assert_eq!(
            resolve_in_root(Path::new("/"), root.path()).unwrap(),
            fs::canonicalize(root.path()).unwrap()
        );
    }

    #[test]
    fn what_leads_nowhere_or_in_circles_is_an_error() {
        let root =
            root(&[("usr/lib/dangling", "/nowhere"), ("usr/lib/a", "b"), ("usr/lib/b", "a")]);
        let error = |path: &str| resolve_in_root(root.path(), Path::new(path)).unwrap_err();
        assert_eq!(error("usr/lib/absent").kind(), io::ErrorKind::NotFound);
        assert_eq!(error("usr/lib/dangling").kind(), io::ErrorKind::NotFound);
        assert!(error("usr/lib/a").to_string().contains("more than 40 symlinks"));
        // A file is no directory.
        assert!(resolve_in_root(root.path(), Path::new("opt/driver/lib.so.570/x")).is_err());
    }
}
