//! The structure of the product's sources, parsed: which files and modules use each other, which
//! paths stand where, and whether a public type name means one thing.
// A test's helpers may unwrap as the test itself may: a panic is a failure with its place.
#![allow(clippy::unwrap_used)]

mod checks;
mod circles;
mod planted;
mod reader;
mod resolve;
mod rules;
mod tokens;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use tree::{Link, Tree};

static PRODUCT: LazyLock<Tree> = LazyLock::new(|| Tree::read(root()));
static LINKS: LazyLock<Vec<Link<'_>>> = LazyLock::new(|| PRODUCT.links());

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn assert_none(found: impl IntoIterator<Item = String>) {
    let found: Vec<_> = found.into_iter().collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    assert_none(circles::circles(&PRODUCT, &LINKS));
}

#[test]
fn no_module_uses_one_that_it_may_not() {
    assert_none(checks::forbidden_uses(&PRODUCT, &LINKS).into_values().flatten());
}

#[test]
fn restricted_paths_stand_only_where_they_may() {
    assert_none(checks::restricted_paths(&PRODUCT, &LINKS));
}

#[test]
fn no_public_type_name_stands_for_two_things() {
    let found = checks::duplicate_types(&PRODUCT, &LINKS);
    assert_none(found.into_iter().map(|((of, name), things)| format!("{of}: {name}: {things:?}")));
}

#[test]
fn the_device_crate_depends_on_thiserror_alone() {
    let manifest = root().join("crates/device/Cargo.toml");
    if manifest.exists() {
        assert_none(checks::impure_dependencies(&fs::read_to_string(manifest).unwrap()));
    }
}

#[test]
fn no_line_is_longer_than_100() {
    let mut files = Vec::new();
    rust_files(root(), &mut files);
    assert_none(files.iter().flat_map(|file| {
        let text = fs::read_to_string(file).unwrap();
        let lines = text.lines().zip(1..).filter(|(line, _)| line.chars().count() > 100);
        lines.map(|(_, line)| format!("{}:{line}", file.display())).collect::<Vec<_>>()
    }));
}

/// Adds every Rust file of a folder.
fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != "target" && name != ".git" {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn what_is_placed_as_cold_code_is_there() {
    let script = fs::read_to_string(root().join("cold-code.ld")).unwrap();
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let patterns: Vec<_> = script
        .split(|at: char| at.is_whitespace() || "()".contains(at))
        .filter_map(|word| word.strip_prefix(".text."))
        .collect();
    assert!(patterns.len() > 10, "{patterns:?}");
    let is_there = |path: &[&str]| match path {
        ["gpu_device_plugin", module @ ..] => is_module("src", module),
        ["device", module @ ..] => is_module("crates/device/src", module),
        // Of its own, or a pattern that names no crate.
        ["core", ..] | [] => true,
        [library, ..] => {
            let named = |name: &str| lock.contains(&format!("name = \"{name}\"\n"));
            named(library) || named(&library.replace('_', "-"))
        }
    };
    let missing = patterns.iter().filter(|pattern| !is_there(&names_in(pattern)));
    assert_none(missing.map(|pattern| format!("{pattern} in cold-code.ld")));
}

/// The names in a pattern of mangled names, in which the length stands before each.
fn names_in(pattern: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = pattern.trim_start_matches('*').trim_start_matches("_ZN");
    loop {
        let digits = rest.len() - rest.trim_start_matches(|at: char| at.is_ascii_digit()).len();
        let Ok(length) = rest[..digits].parse::<usize>() else { return names };
        // The last one may be cut short.
        let end = (digits + length).min(rest.trim_end_matches('*').len());
        names.push(&rest[digits..end]);
        rest = &rest[end..];
    }
}

fn is_module(source: &str, module: &[&str]) -> bool {
    let path = root().join(source).join(module.join("/"));
    path.is_dir() || path.with_extension("rs").is_file()
}
