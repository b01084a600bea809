//! The walls of the house, as `src/lib.rs` draws them: who may name whom.
// A test's helpers may unwrap as the test itself may: a panic is a failure with its place.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Where a word may stand: everywhere else it is a hole in a wall.
struct Wall {
    word: &'static str,
    /// Paths below `src/` in which it may stand; a folder stands for all in it.
    allowed: &'static [&'static str],
    why: &'static str,
}

const WALLS: &[Wall] = &[
    Wall { word: "nvml_wrapper", allowed: &["nvml"], why: "the hardware edge is one room" },
    Wall {
        word: "tonic::include_proto",
        allowed: &["plugin/wire.rs", "podresources/wire.rs"],
        why: "each protobuf is built and read in one file",
    },
    Wall {
        word: "prost::",
        allowed: &["plugin/wire.rs"],
        why: "protobuf is built and read in one file",
    },
    Wall {
        word: "unsafe {",
        allowed: &["nvml/raw.rs"],
        why: "only NVML's C interface needs unsafe code",
    },
    Wall {
        word: "std::env::",
        allowed: &["main.rs", "config"],
        why: "what is outside comes in as a parameter",
    },
    Wall {
        word: "env::var",
        allowed: &["main.rs", "config"],
        why: "what is outside comes in as a parameter",
    },
    Wall { word: "process::exit", allowed: &[], why: "the end is the return of main" },
    Wall { word: "process::abort", allowed: &["main.rs"], why: "only a second signal aborts" },
    Wall {
        word: "crate::daemon",
        allowed: &["daemon"],
        why: "the daemon knows the rooms, no room knows it",
    },
    Wall {
        word: "crate::plugin",
        allowed: &["plugin", "daemon", "translate.rs", "doctor/gather"],
        why: "the edges do not know each other",
    },
    Wall {
        word: "crate::podresources",
        allowed: &["podresources", "daemon"],
        why: "the edges do not know each other",
    },
    Wall {
        word: "crate::nvml",
        allowed: &["nvml", "daemon", "translate.rs", "doctor/gather"],
        why: "the edges do not know each other",
    },
    Wall {
        word: "crate::status",
        allowed: &["status", "metrics", "http", "daemon", "check.rs", "doctor"],
        why: "the edges know nothing of views of them",
    },
    Wall {
        word: "crate::metrics",
        allowed: &["metrics", "http", "daemon"],
        why: "metrics are a view",
    },
    Wall {
        word: "crate::http",
        allowed: &["http", "daemon"],
        why: "the edges do not know each other",
    },
    Wall {
        word: "hyper::",
        allowed: &["http", "client.rs"],
        why: "HTTP is served in one room and asked in one file",
    },
    Wall {
        word: "crate::client",
        allowed: &["translate.rs", "doctor/gather"],
        why: "no edge asks the daemon",
    },
    Wall {
        word: "crate::check",
        allowed: &["config/args.rs", "doctor/gather"],
        why: "a check is asked for, not used",
    },
    Wall {
        word: "crate::config",
        allowed: &["config", "daemon", "translate.rs", "doctor/gather"],
        why: "an edge takes settings in its own words",
    },
    Wall {
        word: "crate::doctor",
        allowed: &["doctor"],
        why: "the doctor looks at the rooms, no room looks at it",
    },
];

/// What the pure room must not mention.
const IMPURE: &[&str] = &[
    "tokio",
    "tonic",
    "prost",
    "serde",
    "tracing",
    "notify",
    "std::fs",
    "std::io",
    "std::env",
    "std::thread",
    "std::net",
    "std::process",
    "std::time::Instant",
    "SystemTime",
    "crate::plugin",
    "crate::podresources",
    "crate::nvml",
    "crate::config",
    "crate::daemon",
    "crate::log",
    "rand::",
    "RandomState",
    "libc",
];

/// What the doctor's checks must not mention: facts come in as values, and one part of the room
/// gathers them.
const UNGATHERED: &[&str] =
    &["tokio", "tonic", "std::fs", "std::io", "std::env", "std::thread", "std::process", "::now()"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|extension| extension == "rs") => {
                found.push(path)
            }
            false => {}
        }
    }
}

/// The code of a file: without comments, and without its tests, which may use what they like.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap();
    // Tests in a file of their own leave a line without a brace here, and more code after it.
    let starts = ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\npub(crate) mod tests {"];
    let before_tests = starts.iter().find_map(|start| text.find(start));
    let text = &text[..before_tests.unwrap_or(text.len())];
    let lines = text.lines().enumerate();
    lines.map(|(n, line)| (n + 1, line.split("//").next().unwrap_or("").to_owned())).collect()
}

fn is_test(relative: &Path) -> bool {
    relative.components().any(|part| part.as_os_str() == "tests")
        || relative.file_stem().is_some_and(|stem| stem == "tests")
}

/// The lines of the product's sources that stand where they must not.
fn holes(src: &Path) -> Vec<String> {
    let mut files = Vec::new();
    sources(src, &mut files);
    assert!(files.len() > 20, "the sources were not found below {}", src.display());
    let mut holes = Vec::new();
    for file in files {
        let relative = file.strip_prefix(src).unwrap();
        if is_test(relative) {
            continue;
        }
        for (n, line) in code(&file) {
            let at = || format!("src/{}:{n}: {}", relative.display(), line.trim());
            for wall in WALLS.iter().filter(|wall| line.contains(wall.word)) {
                if !wall.allowed.iter().any(|allowed| relative.starts_with(allowed)) {
                    holes.push(format!("{} ({})", at(), wall.why));
                }
            }
            if relative.starts_with("doctor") && !relative.starts_with("doctor/gather") {
                let named = UNGATHERED.iter().filter(|word| line.contains(*word));
                holes.extend(
                    named.map(|word| format!("{} (the doctor's checks are pure: no {word})", at())),
                );
            }
            if relative.starts_with("device") {
                let named = IMPURE.iter().filter(|word| line.contains(*word));
                holes.extend(named.map(|word| format!("{} (device/ is pure: no {word})", at())));
            }
        }
    }
    holes
}

#[test]
fn no_room_reaches_through_a_wall() {
    let holes = holes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(holes.is_empty(), "{}", holes.join("\n"));
}

#[test]
fn a_hole_would_be_seen() {
    let copy = tempfile::tempdir().unwrap();
    for n in 0..30 {
        fs::write(copy.path().join(format!("room{n}.rs")), "//! tokio\n").unwrap();
    }
    fs::create_dir(copy.path().join("device")).unwrap();
    fs::write(
        copy.path().join("device/gpu.rs"),
        "use tokio::time; // serde\n#[cfg(test)]\nmod tests { use serde; }\n",
    )
    .unwrap();
    fs::write(copy.path().join("device/mod.rs"), "#[cfg(test)]\nmod tests;\nuse tokio::time;\n")
        .unwrap();
    fs::write(
        copy.path().join("edge.rs"),
        "use crate::daemon;\nfn f() { std::process::exit(1) }\n",
    )
    .unwrap();
    let holes = holes(copy.path()).join("\n");
    for part in ["device/gpu.rs:1", "device/mod.rs:3", "no tokio", "edge.rs:1", "edge.rs:2"] {
        assert!(holes.contains(part), "{part} in {holes}");
    }
    assert_eq!(holes.lines().count(), 4, "{holes}");
}
