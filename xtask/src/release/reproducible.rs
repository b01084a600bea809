//! Whether the same commit gives the same release, wherever and by whom it is built.
//!
//! Two clones at two paths, each with a target directory and a home of cargo's of its own, are
//! built from nothing, and every file of the two releases is compared.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

use super::build::{self, Build};
use super::{built, files, names};

/// Makes the release of the commit that is checked out, twice below `scratch`, and fails where the
/// bytes differ.
pub(crate) fn check(root: &Path, scratch: &Path, with_image: bool) -> anyhow::Result<()> {
    if scratch.exists() {
        fs::remove_dir_all(scratch).with_context(|| scratch.display().to_string())?;
    }
    let build = |repository: &str, home: &str| -> anyhow::Result<Build> {
        let repository = scratch.join(repository);
        let target = repository.join("target");
        Ok(Build { repository, home: scratch.join(home), target, triple: build::host()? })
    };
    // Longer paths for the second, since a length could shift what follows.
    let builds = [build("one", "home")?, build("another/place/two", "another/home")?];
    // Both before the first build, which takes minutes: a commit may come meanwhile.
    for build in &builds {
        build.check_out(root)?;
    }
    let outs = [scratch.join("files"), scratch.join("other-files")];
    for (build, out) in builds.iter().zip(&outs) {
        files(build, out, &built(build)?, with_image)?;
    }
    let made = names(&outs[0])?;
    ensure!(made == names(&outs[1])?, "one has {made:?}, the other {:?}", names(&outs[1])?);
    for name in &made {
        same(&outs[0].join(name), &outs[1].join(name))?;
    }
    println!("two builds at two paths gave the same {} files", made.len());
    Ok(())
}

fn same(first: &Path, second: &Path) -> anyhow::Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let (one, two) = (read(first)?, read(second)?);
    let at = one.iter().zip(&two).position(|(a, b)| a != b).unwrap_or(one.len().min(two.len()));
    ensure!(
        one == two,
        "{} ({} bytes) and {} ({} bytes) differ from byte {at} on",
        first.display(),
        one.len(),
        second.display(),
        two.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_differs_is_named() {
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            fs::write(place.path().join(name), text).unwrap();
            place.path().join(name)
        };
        let (a, b, c) = (file("a", "one two"), file("b", "one two"), file("c", "one six"));
        same(&a, &b).unwrap();
        assert!(same(&a, &c).unwrap_err().to_string().contains("from byte 4 on"));
        let longer = file("d", "one two three");
        assert!(same(&a, &longer).unwrap_err().to_string().contains("from byte 7 on"));
    }
}
