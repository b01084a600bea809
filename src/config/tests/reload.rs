use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

fn source(path: &Path) -> ConfigSource {
    let mut sources = Sources::default();
    sources.set_flag("config-file", vec![path.display().to_string()]);
    ConfigSource::new(sources)
}

/// Lays files out as the kubelet does for a ConfigMap: `config.yaml -> ..data/config.yaml`, `..data
/// -> ..<time>`.
fn config_map(directory: &Path, generation: u32, text: &str) {
    let data = directory.join(format!("..{generation}"));
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("config.yaml"), text).unwrap();
    let next = directory.join("..data_tmp");
    symlink(&data, &next).unwrap();
    std::fs::rename(next, directory.join("..data")).unwrap();
    if generation == 1 {
        symlink("..data/config.yaml", directory.join("config.yaml")).unwrap();
    }
}

#[test]
fn a_symlink_swap_is_one_change_and_the_same_content_is_none() {
    let directory = tempfile::tempdir().unwrap();
    config_map(directory.path(), 1, "flags: {migStrategy: single}");
    let mut source = source(&directory.path().join("config.yaml"));
    let first = source.load().unwrap().config;
    assert_eq!(first.layout.mig_strategy, MigStrategy::Single);
    assert_eq!(source.reload(), Reload::Unchanged);
    config_map(directory.path(), 2, "flags: {migStrategy: single}");
    assert_eq!(source.reload(), Reload::Unchanged);
    config_map(directory.path(), 3, "flags: {migStrategy: mixed}");
    let Reload::Loaded(loaded) = source.reload() else { panic!("not loaded") };
    assert_eq!(loaded.config.layout.mig_strategy, MigStrategy::Mixed);
    assert_eq!(source.reload(), Reload::Unchanged);
}

#[test]
fn a_file_that_turns_bad_or_vanishes_is_told_once_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    std::fs::write(&path, "version: v1").unwrap();
    let mut source = source(&path);
    source.load().unwrap();
    std::fs::write(&path, "version: v9").unwrap();
    assert!(matches!(source.reload(), Reload::Refused(_)));
    assert_eq!(source.reload(), Reload::Unchanged);
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(source.reload(), Reload::Refused(_)));
    std::fs::write(&path, "version: v1").unwrap();
    assert!(matches!(source.reload(), Reload::Loaded(_)));
}

#[test]
fn dev_null_is_an_empty_file() {
    assert!(source(Path::new("/dev/null")).load().is_ok());
    assert!(source(Path::new("/")).load().is_err());
}

fn sliced(replicas: u32, more: &str) -> String {
    format!(
        "sharing: {{timeSlicing: {{resources: [{{name: gpu, replicas: {replicas}}}, {{name: \
            mig-1g.5gb, replicas: 2}}]}}}}\n{more}"
    )
}

#[test]
fn only_what_differs_is_affected() {
    let gpu = "nvidia.com/gpu".parse().unwrap();
    let mig = "nvidia.com/mig-1g.5gb".parse().unwrap();
    let old = with_file(&sliced(2, "")).config();
    let changes = |text: &str| old.changes(&with_file(text).config());

    assert!(changes(&format!("# moved\n\n{}", sliced(2, ""))).is_empty());
    let more = changes(&sliced(3, ""));
    assert!(more.affect(&gpu) && !more.affect(&mig) && !more.layout && !more.injection);
    assert_eq!(changes("").resources, [gpu.clone(), mig.clone()].into());
    let layout = changes(&sliced(2, "flags: {migStrategy: mixed}"));
    assert!(layout.layout && layout.affect(&mig));
    let injection = changes(&sliced(2, "flags: {plugin: {passDeviceSpecs: true}}"));
    assert_eq!(injection, ConfigChanges { injection: true, ..ConfigChanges::default() });
    let health = changes(&sliced(2, "health: {pollInterval: 5s}"));
    assert_eq!(health, ConfigChanges { health: true, ..ConfigChanges::default() });
    let start = changes(&sliced(2, "flags: {failOnInitError: false}"));
    assert_eq!(start.at_next_start, ["flags.failOnInitError"]);
    assert!(changes(&sliced(2, "flags: {plugin: {allocationPolicy: index}}")).allocation);
}

#[test]
fn what_is_fixed_stays_as_it_runs() {
    let old = with_file("").config();
    let mut new = with_file("flags: {failOnInitError: false, migStrategy: mixed}").config();
    new.keep_process_of(&old);
    assert!(new.process.nvml.fail_on_init_error);
    assert_eq!(new.origin("flags.failOnInitError"), &Origin::Default);
    assert_eq!(old.changes(&new), ConfigChanges { layout: true, ..ConfigChanges::default() });
}

#[test]
fn a_file_that_is_emptied_is_refused_until_it_has_content_again_or_is_null() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    std::fs::write(&path, "flags: {migStrategy: mixed}").unwrap();
    let mut source = source(&path);
    source.load().unwrap();
    for empty in ["", "\n\t \n", "# soon\n", "---\n# soon\n", "null\n"] {
        std::fs::write(&path, empty).unwrap();
        let Reload::Refused(refused) = source.reload() else { panic!("{empty:?}") };
        assert!(refused.to_string().contains("config.yaml:1: the file is empty"), "{refused}");
        assert_eq!(source.reload(), Reload::Unchanged);
        assert!(matches!(source.reload_anyway(), Reload::Refused(_)));
    }
    std::fs::write(&path, "{}").unwrap();
    assert!(matches!(source.reload(), Reload::Loaded(_)), "an empty mapping is content");
    std::fs::write(&path, "").unwrap();
    assert!(matches!(source.reload(), Reload::Refused(_)));
    std::fs::remove_file(&path).unwrap();
    symlink("/dev/null", &path).unwrap();
    let Reload::Loaded(loaded) = source.reload() else { panic!("not the defaults") };
    assert_eq!(loaded.config.layout, Config::default().layout);
    // Empty before and after.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "\n").unwrap();
    assert!(matches!(source.reload(), Reload::Loaded(_)));
}

#[test]
fn what_is_no_file_is_refused_and_nothing_is_waited_for() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    let target = directory.path().join("target");
    symlink("target", &path).unwrap();
    for kind in ["FIFO", "directory", "socket", "device"] {
        let _socket = match kind {
            "FIFO" => {
                mknodat(CWD, &target, FileType::Fifo, Mode::RUSR, 0).unwrap();
                None
            }
            "directory" => {
                std::fs::create_dir(&target).unwrap();
                None
            }
            "socket" => Some(std::os::unix::net::UnixListener::bind(&target).unwrap()),
            _ => {
                symlink("/dev/zero", &target).unwrap();
                None
            }
        };
        let refused = source(&path).load().unwrap_err().to_string();
        let says = format!("cannot be read: it is a {kind}, not a regular file");
        assert!(refused.contains(&says), "{refused}");
        if std::fs::remove_file(&target).is_err() {
            std::fs::remove_dir(&target).unwrap();
        }
    }
}
