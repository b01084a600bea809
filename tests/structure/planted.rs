//! Small trees with one fault each, which the checks see, and trees without, which they pass.

use std::fs;

use crate::tree::Tree;
use crate::{checks, circles};

/// The tree of these files: a line for each, its path without `.rs`, a colon and its text. Paths
/// are below `src/` unless they are those of a crate.
fn planted(files: &str) -> Tree {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("Cargo.toml", "package.name = \"gpu-device-plugin\"");
    for (path, text) in files.lines().filter_map(|line| line.trim_start().split_once(": ")) {
        match path.strip_prefix("crates/") {
            Some(name) => {
                write(&format!("{path}/Cargo.toml"), &format!("package.name = \"{name}\""));
                write(&format!("{path}/src/lib.rs"), text);
            }
            None => write(&format!("src/{path}.rs"), text),
        }
    }
    Tree::read(root.path())
}

/// The uses that make circles in a module m with three children a, b and c.
fn circles(m: &str, a: &str, b: &str, c: &str) -> String {
    let tree = planted(&format!(
        "lib: mod m;\nm/mod: mod a; mod b; mod c; {m}\nm/a: {a}\nm/b: {b}\nm/c: {c}"
    ));
    let found = circles::circles(&tree, &tree.links()).join("");
    let uses = found.split("\n  ").skip(1).collect::<Vec<_>>().join("; ");
    uses.replace("src/m/", "").replace(".rs", "")
}

#[test]
fn a_circle_is_seen_however_it_is_written() {
    for (way, a) in [
        ("a group", "use crate::{m::{b::{B as Other}}}; pub struct A;"),
        ("a module in a group", "use crate::m::{self, b}; pub struct A(b::B);"),
        ("a renamed module", "use super::b as other; pub struct A(other::B);"),
        ("a path without use", "pub struct A(crate::m::b::B);"),
        ("super of super", "pub struct A; mod inner { fn f(_: super::super::b::B) {} }"),
        ("super of self", "pub struct A(self::super::b::B);"),
        ("a glob", "use super::b::*; pub struct A(B);"),
        ("a name that a glob brings", "use super::*; pub struct A(b::B);"),
        ("a use in a function", "pub struct A; fn f() { use crate::m::b::B; }"),
        ("a macro", "pub struct A; fn f() { vec![crate::m::b::B] }"),
        ("an imported module in a macro", "use super::b; pub struct A; fn f() { vec![b::B] }"),
        ("a re-export of another", "use super::B; pub struct A;"),
        ("its own re-export", "pub use super::b::B; pub struct A(B);"),
    ] {
        let found = circles("pub use b::B;", a, "use super::a::A; pub struct B;", "");
        let names = if way == "a glob" { "*, B" } else { "B" };
        assert_eq!(found, format!("a -> b: {names}; b -> a: A"), "{way}");
    }
    let c = "pub struct C(super::a::A);";
    let over_others =
        circles("", "use super::b::B; pub struct A;", "pub struct B(super::c::C);", c);
    assert_eq!(over_others, "a -> b: B; b -> c: C; c -> a: A");
    let with_parent = circles("pub struct M(a::A);", "use super::M; pub struct A;", "", "");
    assert_eq!(with_parent, "a -> mod: M; mod -> a: A");
}

#[test]
fn what_makes_no_circle_passes() {
    let tests = "#[cfg(test)] mod tests { use crate::m::a::A; } #[cfg(test)] use super::a;
        pub struct B; impl B { #[cfg(test)] fn example() -> crate::m::a::A {} }"
        .replace('\n', " ");
    let variable = "pub(super) struct B; fn f(a: u8) { g!(a, self.a.a::<u8>()) }";
    for (m, a, b) in [
        // `mod` lines and re-exports use nothing.
        ("pub use a::A; pub struct M;", "use super::M; pub struct A;", ""),
        ("pub use b::B;", "use super::B; pub struct A;", "pub struct B;"),
        ("", "use super::b::B; pub struct A;", tests.as_str()),
        // A variable is no module, and `pub(super)` uses nothing.
        ("use a::A; fn f(_: A) {}", "use super::b; pub struct A(b::B);", variable),
    ] {
        assert_eq!(circles(m, a, b, ""), "");
    }
}

#[test]
fn a_use_that_is_not_in_the_table_is_seen_however_it_is_written() {
    let uses = |file: &str| {
        let tree = planted(&format!(
            "lib: mod config; mod nvml; mod host; mod doctor; mod daemon; mod extra; mod mps;
            config: pub use crate::nvml::Settings; pub struct Config;
            nvml/mod: mod raw; pub struct Settings;
            nvml/raw: struct Raw;
            host: pub use device::Gpu; pub struct Host;
            doctor/mod: pub mod gather; pub struct Report;
            doctor/gather: pub struct Facts;
            daemon: pub fn run() {{}}
            extra: pub struct Extra;
            mps: struct Mps;
            crates/device: pub struct Gpu;
            {file}"
        ));
        let found = checks::forbidden_uses(&tree, &tree.links());
        found.keys().map(|(from, to)| format!("{from} -> {to}")).collect::<Vec<_>>().join("; ")
    };
    for (file, found) in [
        ("nvml/raw: use crate::{host::Host, config::Config};", "nvml -> config"),
        ("nvml/raw: fn f(_: crate::config::Config) {}", "nvml -> config"),
        ("nvml/raw: fn f(_: super::super::config::Config) {}", "nvml -> config"),
        ("nvml/raw: use crate::config as other;", "nvml -> config"),
        ("nvml/raw: fn f() { select! { _ = crate::daemon::run() => {} } }", "nvml -> daemon"),
        ("nvml/raw: use crate::config::Settings;", "nvml -> config"),
        ("mps: pub use crate::nvml::*;", "mps -> nvml"),
        ("doctor/mod: use device::Gpu; use crate::host::Gpu as Other;", "doctor -> host"),
        ("doctor/mod: mod gather; use gather::Facts;", "doctor -> doctor/gather"),
        ("main: use gpu_device_plugin::{daemon, config, nvml::Settings};", "main -> nvml"),
        ("daemon: use crate::extra::Extra;", "daemon -> extra"),
        ("extra: use crate::host::Host;", "extra -> host"),
        ("nvml/raw: use super::Settings; use crate::host::{Gpu, Host};", ""),
        ("nvml/raw: #[cfg(test)] mod tests { use crate::daemon::run; }", ""),
        ("doctor/gather: use super::Report; use crate::{host, nvml, config::Settings};", ""),
        ("daemon: use crate::{config::Config, host, mps, nvml}; use device::Gpu;", ""),
    ] {
        assert_eq!(uses(file), found, "{file}");
    }
}

#[test]
fn a_restricted_path_is_seen_however_it_is_written() {
    for (file, path) in [
        ("nvml: use std::{env as e, fs}; fn f() { e::var(\"A\") }", "std::env::var"),
        ("nvml: use std::*;", "std::*"),
        ("main: use std::process; fn main() { process::exit(1) }", "std::process::exit"),
        ("nvml: fn f() { info!(x = std::process::abort()) }", "std::process::abort"),
        ("host: use nvml_wrapper::Nvml;", "nvml_wrapper::Nvml"),
        ("nvml: fn f() { unsafe { g() } }", "unsafe::code"),
        ("nvml: unsafe fn f() {}", "unsafe::code"),
        ("nvml: tonic::include_proto!(\"v1\");", "tonic::include_proto"),
        ("doctor: use std::time::Instant as I; fn f() { I::now() }", "std::time::Instant::now"),
        ("crates/device: use std::time::{Duration, Instant as I};", "std::time::Instant"),
    ] {
        let others = "lib: mod nvml; mod host; mod doctor;\nnvml: \nhost: \ndoctor: \n";
        let tree = planted(&format!("{others}{file}"));
        let found = checks::restricted_paths(&tree, &tree.links());
        assert!(
            found.iter().any(|line| line.contains(&format!(": {path}: "))),
            "{file}: {found:?}"
        );
    }
    let fine = planted(
        "lib: mod nvml; #[cfg(test)] mod tests { use std::env; }\nnvml: use nvml_wrapper::Nvml;",
    );
    assert_eq!(checks::restricted_paths(&fine, &fine.links()), [""; 0]);
}

#[test]
fn a_public_type_name_of_two_things_is_seen() {
    let tree = planted(
        "lib: mod a; mod b; pub use a::{Fine as Renamed, Once}; made!(pub Made);
        a: pub struct Twice; pub struct Once; pub struct Fine; pub(crate) struct Own;
        b: pub enum Twice {} pub type Renamed = u8; pub trait Own {} pub use crate::Made;
        crates/device: pub struct Once;",
    );
    let found = checks::duplicate_types(&tree, &tree.links());
    let names: Vec<_> = found.keys().map(|(of, name)| format!("{of} {name}")).collect();
    assert_eq!(names, ["src Renamed", "src Twice"]);
}

#[test]
fn a_dependency_of_the_device_crate_is_seen() {
    for (more, count) in [
        ("[dev-dependencies]\nproptest = \"1\"", 0),
        ("libc = \"1\"", 1),
        ("[build-dependencies]\ncc = \"1\"", 1),
        ("[target.'cfg(unix)'.dependencies]\nlibc = \"1\"", 1),
    ] {
        let manifest = format!("[dependencies]\nthiserror = \"2\"\n{more}\n");
        assert_eq!(checks::impure_dependencies(&manifest).len(), count, "{more}");
    }
}
