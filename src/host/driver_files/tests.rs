//! Tests of installations: usual ones, ones with holes, and hostile ones.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use device::cdi::{DriverFiles, HookProgram};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::devices::NeededNodes;
use super::hook_program::{HookPath, HookVersions};
use super::sample::{VERSION, installation, program, toolkit, write};
use super::*;
use crate::host::device_nodes::Roots;

const ALL: Wanted = Wanted { explicit_libraries: false, sockets: true };

fn found(root: &Path, version: Option<&str>) -> DriverFiles {
    find(DriverRoot { here: root, host: "/" }, version, ALL)
}

fn containers(files: &[HostFile]) -> Vec<&str> {
    files.iter().map(|file| file.container.as_str()).collect()
}

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    installation(root.path(), VERSION);
    root
}

#[test]
fn the_version_is_that_of_the_driver_and_otherwise_that_of_its_libraries() {
    let root = root();
    let by_driver = found(root.path(), Some(VERSION));
    for version in [None, Some(""), Some("../../etc"), Some("580"), Some("580..1")] {
        assert_eq!(found(root.path(), version), by_driver, "{version:?}");
    }
    // A driver whose files are not there yet, or no longer: nothing of another version is given.
    let other = found(root.path(), Some("570.1"));
    assert!(other.libcuda_directories.is_empty());
    assert!(other.missing[0].contains("libcuda.so.570.1 is in no directory"), "{other:?}");
    let files = containers(&other.files);
    assert!(!files.iter().any(|file| file.contains("580") || file.contains("gsp")), "{files:?}");
}

#[test]
fn an_empty_root_has_nothing_and_says_so() {
    let root = tempfile::tempdir().unwrap();
    let nothing = found(root.path(), None);
    assert!(nothing.files.is_empty() && nothing.links.is_empty() && nothing.sockets.is_empty());
    assert!(nothing.missing[0].contains("containers get device nodes alone"));
    assert_eq!(found(&root.path().join("absent"), None).files, []);
}

#[test]
fn every_usual_place_of_libraries_is_looked_at_once() {
    for place in places::LIBRARY_DIRECTORIES.into_iter().chain(["usr/lib64/nvidia/current"]) {
        let root = tempfile::tempdir().unwrap();
        let library = format!("{place}/libcuda.so.{VERSION}");
        write(root.path(), &library, "");
        let here = found(root.path(), Some(VERSION));
        assert_eq!(containers(&here.files), [format!("/{library}")]);
        assert_eq!(here.libcuda_directories, [format!("/{place}")]);
        // Its name for the loader, though the installation has no link.
        let link = here.links.iter().find(|link| link.path == format!("/{place}/libcuda.so.1"));
        assert_eq!(link.unwrap().target, format!("libcuda.so.{VERSION}"));
    }
}

#[test]
fn a_program_is_where_a_container_looks_for_it() {
    let root = tempfile::tempdir().unwrap();
    let found = |version| found(root.path(), version).files;
    for (place, container) in [
        ("usr/local/glibc/usr/bin", "/usr/bin/nvidia-smi"),
        ("home/kubernetes/bin/nvidia/bin", "/usr/bin/nvidia-smi"),
        ("usr/local/nvidia/bin", "/usr/local/nvidia/bin/nvidia-smi"),
    ] {
        let path = format!("{place}/nvidia-smi");
        program(root.path(), &path);
        let expected = HostFile { container: container.to_owned(), host: format!("/{path}") };
        assert_eq!(found(Some(VERSION)), [expected]);
        fs::remove_file(root.path().join(path)).unwrap();
    }
}

#[test]
fn optional_libraries_and_sockets_are_there_where_they_are_wanted() {
    let root = root();
    write(root.path(), "usr/lib64/libGL.so.1.7.0", "");
    symlink("libGL.so.1.7.0", root.path().join("usr/lib64/libGL.so.1")).unwrap();
    let root = DriverRoot { here: root.path(), host: "/" };
    for (explicit_libraries, sockets) in [(false, false), (true, true)] {
        let found = find(root, Some(VERSION), Wanted { explicit_libraries, sockets });
        let has = containers(&found.files).contains(&"/usr/lib64/libGL.so.1.7.0");
        assert_eq!(has, explicit_libraries);
        let link = |link: &device::cdi::FileLink| link.path == "/usr/lib64/libGL.so.1";
        assert_eq!(found.links.iter().any(link), explicit_libraries);
        assert_eq!(found.sockets.len(), usize::from(sockets));
    }
}

#[test]
fn links_of_the_root_lead_to_places_in_it() {
    let root = tempfile::tempdir().unwrap();
    // NixOS and Debian's alternatives.
    write(root.path(), &format!("nix/store/x-driver/lib/libcuda.so.{VERSION}"), "");
    fs::create_dir_all(root.path().join("run")).unwrap();
    symlink("/nix/store/x-driver", root.path().join("run/opengl-driver")).unwrap();
    let found = found(root.path(), Some(VERSION));
    assert_eq!(containers(&found.files), [format!("/run/opengl-driver/lib/libcuda.so.{VERSION}")]);
    assert_eq!(found.files[0].host, format!("/nix/store/x-driver/lib/libcuda.so.{VERSION}"));
}

#[test]
fn nothing_leads_out_of_a_hostile_root_and_nothing_is_waited_for() {
    let parent = tempfile::tempdir().unwrap();
    let outside = parent.path().join("outside");
    write(&outside, "secret", "");
    let here = parent.path().join("root");
    let libraries = here.join("usr/lib64");
    fs::create_dir_all(&libraries).unwrap();
    let name = |stem: &str| format!("{stem}.so.{VERSION}");
    for (stem, target) in [
        ("libcuda", outside.join("secret").display().to_string()),
        ("libup", "../../../outside/secret".to_owned()),
        ("libfar", "../../../../../../../../../../../../../../etc/passwd".to_owned()),
        ("libself", name("libself")),
        ("libnull", "/dev/null".to_owned()),
    ] {
        symlink(target, libraries.join(name(stem))).unwrap();
    }
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, libraries.join(name("libfifo")), FileType::Fifo, mode, 0).unwrap();
    fs::create_dir(libraries.join(name("libdirectory"))).unwrap();
    // Names that would be two things in an argument of a hook, or on a terminal.
    for stem in ["liba::b", "lib\u{1b}[2J", "libc d", "libe,f", "lib\n"] {
        fs::write(libraries.join(name(stem)), "").unwrap();
    }
    fs::write(libraries.join(name("libgood")), "").unwrap();
    // Directories that lead out, or in a circle.
    symlink(&outside, here.join("usr/lib")).unwrap();
    symlink("lib", here.join("lib")).unwrap();
    symlink("../../outside", here.join("lib64")).unwrap();
    fs::create_dir_all(here.join("dev")).unwrap();
    symlink("/dev/null", here.join("dev/nvidia0")).unwrap();
    symlink("../../../../../../../../../dev/null", here.join("dev/nvidiactl")).unwrap();
    mknodat(CWD, here.join("dev/nvidia-uvm"), FileType::Fifo, mode, 0).unwrap();
    fs::write(here.join("dev/nvidia1"), "").unwrap();
    let found = found(&here, Some(VERSION));
    assert_eq!(containers(&found.files), [format!("/usr/lib64/{}", name("libgood"))]);
    let roots = Roots { driver: here.clone(), proc: here.clone() };
    assert_eq!(devices::find(&roots, &here, &NeededNodes::default()).nodes, [].into());
}

#[test]
fn a_root_with_a_hundred_thousand_files_is_read_and_one_with_more_is_read_in_part() {
    let root = root();
    let libraries = root.path().join("usr/lib64");
    for number in 0..100_000 {
        // A link is the cheapest file.
        symlink("nowhere", libraries.join(format!("libx{number}.so.1"))).unwrap();
    }
    let all = found(root.path(), Some(VERSION));
    assert_eq!(all.libcuda_directories, ["/usr/lib64"]);
    assert!(all.missing.is_empty(), "{:?}", all.missing);
    for number in 0..40_000 {
        symlink("nowhere", libraries.join(format!("liby{number}.so.1"))).unwrap();
    }
    let part = found(root.path(), Some(VERSION));
    assert!(part.missing.iter().any(|what| what.contains("not all were looked at")), "{part:?}");
}

#[test]
fn a_library_of_every_name_in_the_world_is_no_more_than_a_bound() {
    let root = tempfile::tempdir().unwrap();
    let libraries = root.path().join("usr/lib64");
    fs::create_dir_all(&libraries).unwrap();
    for number in 0..3_000 {
        fs::write(libraries.join(format!("lib{number}.so.{VERSION}")), "").unwrap();
    }
    let found = found(root.path(), Some(VERSION));
    assert_eq!(found.files.len(), 1024);
    assert!(
        found.missing.iter().any(|what| what.contains("more than 1024")),
        "{:?}",
        found.missing
    );
}

#[test]
fn the_hook_program_is_the_one_on_the_host() {
    let find = |root: &Path, host, path, is_set| {
        let (root, hook) = (DriverRoot { here: root, host }, HookPath { path, is_set });
        hook_program::find(root, hook, &mut HookVersions::default())
    };
    let program_at =
        |path: &str, version| Some(HookProgram { path: path.to_owned(), version, is_own: false });
    let (default, cdi_hook) = ("/usr/bin/nvidia-ctk", "/usr/bin/nvidia-cdi-hook");
    let root = tempfile::tempdir().unwrap();
    let here = root.path();
    assert_eq!(find(here, "/", default, false), None);
    assert_eq!(find(here, "/", "/opt/nvidia-cdi-hook", true), None, "it is not there");
    // The host's files cannot be seen: what was set is believed.
    assert_eq!(find(here, "/run/nvidia/driver", default, false), None);
    assert_eq!(find(here, "/run/nvidia/driver", "/opt/hook", true), program_at("/opt/hook", None));
    program(here, "usr/bin/nvidia-ctk");
    assert_eq!(find(here, "/", default, false), program_at(default, None));
    for (version, expected) in [
        ("1.17.8", Some((1, 17, 8))),
        ("1.13.5", Some((1, 13, 5))),
        ("1.18.0~rc.1", None),
        ("1.18", None),
        ("new", None),
    ] {
        toolkit(here, version);
        assert_eq!(find(here, "/", default, false), program_at(cdi_hook, expected), "{version}");
    }
    // What is set is taken, and another program is not of the package.
    toolkit(here, "1.18.0");
    assert_eq!(find(here, "/", default, true), program_at(default, Some((1, 18, 0))));
    program(here, "opt/nvidia-cdi-hook");
    let own = "/opt/nvidia-cdi-hook";
    assert_eq!(find(here, "/", own, true), program_at(own, None));
    // What the program itself has in it goes before the list, which may be of another one.
    let text = "-X github.com/NVIDIA/nvidia-container-toolkit/internal/info.version=1.17.7 ";
    write(here, "usr/bin/nvidia-ctk", text);
    assert_eq!(find(here, "/", default, true), program_at(default, Some((1, 17, 7))));
    write(here, "usr/bin/nvidia-ctk", &text.replace("1.17.7", "1.18.0-rc.2"));
    assert_eq!(find(here, "/", default, true), program_at(default, None), "no release");
    program(here, "usr/bin/nvidia-ctk");
    // No list of packages, and a FIFO in its place.
    fs::remove_file(here.join("var/lib/dpkg/status")).unwrap();
    assert_eq!(find(here, "/", default, true), program_at(default, None));
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, here.join("var/lib/dpkg/status"), FileType::Fifo, mode, 0).unwrap();
    assert_eq!(find(here, "/", default, true), program_at(default, None));
}
