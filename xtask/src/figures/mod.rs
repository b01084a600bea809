//! The size and the structure of the product's source as numbers, alone or beside another
//! checkout's.
//!
//! The product is `src/` and `crates/*/src/`. Tests, in modules and in files of their own, do not
//! count, nor does the `testing` feature.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use source::Source;
use tempfile::TempDir;

/// The numbers of one checkout.
#[derive(Debug, Default)]
struct Figures {
    /// Lines of code by module: a folder or a file of `src/`, or a crate.
    modules: BTreeMap<String, usize>,
    /// Lines of each file, comments and tests inside it included.
    files: Vec<usize>,
    /// Lines of each function's body.
    bodies: Vec<usize>,
    /// Names of types that two or more files define, with the number of files.
    twice: BTreeMap<String, usize>,
}

impl Figures {
    fn code(&self) -> usize {
        self.modules.values().sum()
    }

    /// One row for each number: what it is, and the number.
    fn rows(&self) -> Vec<(String, usize)> {
        let modules = self.modules.iter().map(|(name, lines)| (format!("  {name}"), *lines));
        let row = |what: &str, number| (what.to_owned(), number);
        let mut rows = vec![row("lines of code", self.code())];
        rows.extend(modules);
        rows.extend([
            row("files", self.files.len()),
            row("lines of a file, median", percentile(&self.files, 50)),
            row("lines of a file, 90th percentile", percentile(&self.files, 90)),
            row("functions", self.bodies.len()),
            row("lines of a function's body, median", percentile(&self.bodies, 50)),
            row("lines of a function's body, 90th percentile", percentile(&self.bodies, 90)),
            row("names that two or more types bear", self.twice.len()),
        ]);
        rows
    }
}

/// Prints the figures of `root`, and beside them those of `other`, if there is one. Two checkouts
/// are formatted as `root/rustfmt.toml` says before they are compared: another width is no other
/// code.
pub(crate) fn print(root: &Path, other: Option<&Path>, names: bool) -> anyhow::Result<()> {
    let now = match other {
        None => figures(root)?,
        Some(other) => {
            let format = root.join("rustfmt.toml");
            let before = figures(formatted(other, &format)?.path())?;
            let now = figures(formatted(root, &format)?.path())?;
            compare(&before, &now);
            now
        }
    };
    if other.is_none() {
        now.rows().iter().for_each(|(what, number)| println!("{what:<48}{number:>8}"));
    }
    if names {
        now.twice.iter().for_each(|(name, files)| println!("{name}: {files} files"));
    }
    Ok(())
}

fn compare(before: &Figures, now: &Figures) {
    println!("{:<48}{:>8}{:>8}{:>9}", "", "before", "now", "change");
    let (before, now) = (before.rows(), now.rows());
    let old =
        |what: &str| before.iter().find(|(other, _)| other == what).map(|(_, number)| *number);
    for (what, number) in &now {
        let was = old(what).unwrap_or(0);
        let change = number.cast_signed() - was.cast_signed();
        println!("{what:<48}{was:>8}{number:>8}{change:>+9}");
    }
    for (what, was) in before.iter().filter(|(what, _)| now.iter().all(|(other, _)| other != what))
    {
        println!("{what:<48}{was:>8}{:>8}{:>+9}", 0, -was.cast_signed());
    }
}

/// The nearest-rank percentile; 0 of nothing.
fn percentile(numbers: &[usize], percent: usize) -> usize {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

fn figures(root: &Path) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    let mut definitions = BTreeMap::<String, usize>::new();
    for (path, source) in product(root)? {
        *figures.modules.entry(module(&path)).or_default() += source.code;
        figures.files.push(source.lines);
        figures.bodies.extend(source.bodies);
        for name in source.types.into_iter().collect::<BTreeSet<_>>() {
            *definitions.entry(name).or_default() += 1;
        }
    }
    ensure!(!figures.files.is_empty(), "there is no Rust file below {}", root.display());
    figures.twice = definitions.into_iter().filter(|(_, files)| *files > 1).collect();
    Ok(figures)
}

/// `src/nvml/raw.rs` is of the module `nvml/`, `src/main.rs` of `main.rs`, and
/// `crates/device/src/gpu.rs` of `crates/device`.
fn module(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    match &parts[..] {
        [_, file] => file.to_string(),
        [first, name, ..] if first == "crates" => format!("{first}/{name}"),
        [_, folder, ..] => format!("{folder}/"),
        _ => path.display().to_string(),
    }
}

/// The product's files by their paths below `root`, without those that only tests compile.
fn product(root: &Path) -> anyhow::Result<BTreeMap<PathBuf, Source>> {
    let mut sources = BTreeMap::new();
    let mut tests = Vec::new();
    for path in paths(root)? {
        let text = fs::read_to_string(root.join(&path))
            .with_context(|| root.join(&path).display().to_string())?;
        let source = Source::read(&text).with_context(|| path.display().to_string())?;
        tests.extend(source.test_modules.iter().map(|name| folder(&path).join(name)));
        sources.insert(path, source);
    }
    // `tests.rs` and what is below `tests/`.
    sources.retain(|path, _| !tests.iter().any(|test| path.with_extension("").starts_with(test)));
    Ok(sources)
}

/// The product's Rust files, as paths below `root`.
fn paths(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    rust_files(&root.join("src"), &mut found)?;
    for entry in fs::read_dir(root.join("crates")).into_iter().flatten() {
        rust_files(&entry.context("crates")?.path().join("src"), &mut found)?;
    }
    found.sort();
    let below = |path: PathBuf| Ok(path.strip_prefix(root).context("a path outside")?.to_owned());
    found.into_iter().map(below).collect()
}

/// Where the modules of a file have their files.
fn folder(path: &Path) -> PathBuf {
    let named = path.file_stem().unwrap_or_default();
    let parent = path.parent().unwrap_or(path);
    if ["mod", "lib", "main"].iter().any(|name| named == *name) {
        parent.to_owned()
    } else {
        parent.join(named)
    }
}

/// Adds the Rust files below a directory, if there is one.
fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| directory.display().to_string())?,
    };
    for entry in entries {
        let path = entry.with_context(|| directory.display().to_string())?.path();
        if path.is_dir() {
            rust_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// A copy of the product's files, formatted with the settings of `format`.
fn formatted(root: &Path, format: &Path) -> anyhow::Result<TempDir> {
    let copy = tempfile::tempdir().context("cannot make a directory")?;
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.args(["--edition", "2024", "--config-path"]).arg(format);
    for path in paths(root)? {
        let (from, to) = (root.join(&path), copy.path().join(&path));
        fs::create_dir_all(to.parent().unwrap_or(copy.path()))
            .and_then(|()| fs::copy(&from, &to))
            .with_context(|| format!("cannot copy {}", from.display()))?;
        // rustfmt finds the modules of a crate by itself.
        if ["src/lib.rs", "src/main.rs"].iter().any(|end| path.ends_with(end)) {
            rustfmt.arg(to);
        }
    }
    let status = rustfmt.status().context("cannot run rustfmt")?;
    ensure!(status.success(), "rustfmt cannot format {}", root.display());
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkout with these files.
    fn checkout(files: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn of(root: &TempDir) -> Figures {
        figures(root.path()).unwrap()
    }

    #[test]
    fn code_is_counted_by_module() {
        let root = checkout(&[
            ("src/main.rs", "fn main() {}\n"),
            ("src/nvml/raw.rs", "struct A;\nstruct B;\n"),
            ("src/nvml/events/mod.rs", "struct C;\n"),
            ("crates/device/src/lib.rs", "struct D;\n"),
            ("tests/all.rs", "struct E;\n"),
        ]);
        let modules = BTreeMap::from([
            ("crates/device".to_owned(), 1),
            ("main.rs".to_owned(), 1),
            ("nvml/".to_owned(), 3),
        ]);
        assert_eq!(of(&root).modules, modules);
    }

    #[test]
    fn files_that_only_tests_compile_are_left_out() {
        let root = checkout(&[
            ("src/lib.rs", "#[cfg(test)]\nmod tests;\nmod a;\n"),
            ("src/tests.rs", "mod deeper;\n"),
            ("src/tests/deeper.rs", "struct A;\n"),
            ("src/a.rs", "#[cfg(test)]\nmod tests;\n"),
            ("src/a/tests/mod.rs", "struct A;\n"),
        ]);
        let figures = of(&root);
        assert_eq!((figures.files.len(), figures.code()), (2, 1));
    }

    #[test]
    fn a_name_counts_as_double_when_two_files_define_it() {
        let root = checkout(&[
            ("src/a.rs", "struct Report;\nstruct Other;\n"),
            ("src/b.rs", "enum Report {}\n"),
        ]);
        assert_eq!(of(&root).twice, BTreeMap::from([("Report".to_owned(), 2)]));
    }

    #[test]
    fn another_width_is_no_other_code() {
        let root = checkout(&[
            ("rustfmt.toml", "max_width = 100\n"),
            ("src/lib.rs", "mod a;\n"),
            ("src/a.rs", "fn a() {\n    b(\n        1,\n        2,\n    );\n}\n"),
        ]);
        let copy = formatted(root.path(), &root.path().join("rustfmt.toml")).unwrap();
        assert_eq!(of(&copy).code(), 4);
    }

    #[test]
    fn a_percentile_is_one_of_the_numbers() {
        assert_eq!(percentile(&[5, 1, 4, 2, 3], 50), 3);
        assert_eq!(percentile(&(1..=10).collect::<Vec<_>>(), 90), 9);
        assert_eq!(percentile(&[], 90), 0);
    }
}
