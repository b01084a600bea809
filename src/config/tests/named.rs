use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;

/// A ConfigMap's directory, a directory for the name, and one for the state.
struct Places {
    root: tempfile::TempDir,
}

impl Places {
    fn new(configs: &[(&str, &str)]) -> Self {
        let places = Self { root: tempfile::tempdir().unwrap() };
        for directory in ["name", "state", "configs"] {
            fs::create_dir(places.at(directory)).unwrap();
        }
        places.config_map(1, configs);
        places
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// As the kubelet lays it out.
    fn config_map(&self, generation: u32, configs: &[(&str, &str)]) {
        let data = self.at(&format!("configs/..{generation}"));
        fs::create_dir(&data).unwrap();
        for (name, text) in configs {
            fs::write(data.join(name), text).unwrap();
            let link = self.at("configs").join(name);
            let _ = fs::remove_file(&link);
            symlink(format!("..data/{name}"), link).unwrap();
        }
        symlink(format!("..{generation}"), self.at("configs/..data_tmp")).unwrap();
        fs::rename(self.at("configs/..data_tmp"), self.at("configs/..data")).unwrap();
    }

    fn choose(&self, text: &str) {
        fs::write(self.at("name/config-name"), text).unwrap();
    }

    fn source(&self) -> ConfigSource {
        let mut sources = Sources::default();
        for (flag, path) in [
            ("config-file", "own.yaml"),
            ("config-dir", "configs"),
            ("config-name-file", "name/config-name"),
            ("state-dir", "state"),
        ] {
            sources.set_flag(flag, vec![self.at(path).display().to_string()]);
        }
        fs::write(self.at("own.yaml"), "version: v1").unwrap();
        ConfigSource::new(sources)
    }
}

const SINGLE: (&str, &str) = ("a100-40", "flags: {migStrategy: single}");
const MIXED: (&str, &str) = ("mixed", "flags: {migStrategy: mixed}");
const BROKEN: (&str, &str) = ("broken", "flags: {migStrategy: no}");

fn strategy(reload: Reload) -> MigStrategy {
    match reload {
        Reload::Loaded(loaded) => loaded.config.layout.mig_strategy,
        other => panic!("{other:?}"),
    }
}

fn refusal(reload: Reload) -> String {
    match reload {
        Reload::Refused(refused) => refused.0.mistakes_in_line(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_named_file_counts_its_edits_and_another_name_and_without_one_the_config_file() {
    let places = Places::new(&[SINGLE, MIXED]);
    let mut source = places.source();
    let config = source.load().unwrap().config;
    assert_eq!(config.layout.mig_strategy, MigStrategy::None, "nobody has chosen");
    places.choose("a100-40\n");
    assert_eq!(strategy(source.reload()), MigStrategy::Single);
    assert_eq!(source.file(), Some(&*places.at("configs/a100-40")));
    assert_eq!(source.reload(), Reload::Unchanged);
    places.config_map(2, &[("a100-40", MIXED.1)]);
    assert_eq!(strategy(source.reload()), MigStrategy::Mixed);
    places.config_map(3, &[SINGLE, MIXED]);
    assert_eq!(strategy(source.reload()), MigStrategy::Single);
    places.choose("mixed");
    assert_eq!(strategy(source.reload()), MigStrategy::Mixed);
    fs::remove_file(places.at("name/config-name")).unwrap();
    assert_eq!(source.reload(), Reload::Unchanged, "nobody has chosen otherwise");
    places.choose("\n");
    assert_eq!(strategy(source.reload()), MigStrategy::None);
    assert_eq!(source.file(), Some(&*places.at("own.yaml")));
}

#[test]
fn the_choice_is_kept_for_a_process_that_starts_before_anybody_can_choose() {
    let places = Places::new(&[SINGLE, MIXED]);
    places.choose("mixed\n");
    let mut source = places.source();
    source.load().unwrap();
    source.keep_name().unwrap();
    fs::remove_file(places.at("name/config-name")).unwrap();
    let mut next = places.source();
    assert_eq!(next.load().unwrap().config.layout.mig_strategy, MigStrategy::Mixed);
    places.choose("");
    assert_eq!(strategy(next.reload()), MigStrategy::None);
    next.keep_name().unwrap();
    fs::remove_file(places.at("name/config-name")).unwrap();
    let mut after = places.source();
    assert_eq!(after.load().unwrap().config.layout.mig_strategy, MigStrategy::None);
}

#[test]
fn at_the_start_a_choice_that_is_refused_ends_nothing_and_is_told() {
    let places = Places::new(&[SINGLE, MIXED, BROKEN]);
    places.choose("mixed");
    let mut source = places.source();
    source.load().unwrap();
    source.keep_name().unwrap();
    for (text, why) in [
        ("broken", "migStrategy"),
        ("absent", "there is none of that name in"),
        ("../own.yaml", "is not the name of a configuration"),
    ] {
        places.choose(text);
        let mut next = places.source();
        let config = next.load().unwrap().config;
        assert_eq!(config.layout.mig_strategy, MigStrategy::Mixed, "{text}: that before it");
        let told = next.take_refused_choice().unwrap().0.mistakes_in_line();
        assert!(told.contains(why), "{told}");
        assert_eq!(next.reload(), Reload::Unchanged, "it is told once");
        fs::remove_file(places.at("state/config-name")).unwrap();
        let mut first = places.source();
        let config = first.load().unwrap().config;
        assert_eq!(config.layout.mig_strategy, MigStrategy::None, "{text}: the config file");
        places.choose("mixed");
        assert_eq!(strategy(first.reload()), MigStrategy::Mixed);
        first.keep_name().unwrap();
    }
}

#[test]
fn a_name_that_is_not_there_yet_is_taken_once_the_config_map_has_it() {
    let places = Places::new(&[SINGLE]);
    let mut source = places.source();
    source.load().unwrap();
    places.choose("mixed");
    let told = refusal(source.reload());
    assert!(told.contains("the configuration mixed is chosen"), "{told}");
    assert!(told.ends_with(", but a100-40"), "{told}");
    assert_eq!(source.reload(), Reload::Unchanged);
    places.config_map(2, &[SINGLE, MIXED]);
    assert_eq!(strategy(source.reload()), MigStrategy::Mixed);
}

#[test]
fn no_name_leads_out_of_the_directory() {
    let places = Places::new(&[SINGLE]);
    fs::write(places.at("secret"), "flags: {migStrategy: mixed}").unwrap();
    symlink("../secret", places.at("configs/up")).unwrap();
    symlink(places.at("secret"), places.at("configs/away")).unwrap();
    symlink("/dev/null", places.at("configs/null")).unwrap();
    let mut source = places.source();
    source.load().unwrap();
    let long = "a".repeat(300);
    for name in [
        "../secret",
        "/etc/passwd",
        ".",
        "..",
        "..data",
        "..data/a100-40",
        "a100-40/",
        "a\0b",
        "a\nb",
        " a100-40",
        "up",
        "away",
        "null",
        &long,
        "\u{1b}[2J",
    ] {
        places.choose(name);
        let told = refusal(source.reload());
        assert!(!told.contains('\u{1b}'), "{told}");
        assert_eq!(source.reload(), Reload::Unchanged, "{name:?}");
    }
    places.choose("a100-40");
    assert_eq!(strategy(source.reload()), MigStrategy::Single);
}

#[test]
fn what_stands_in_the_place_of_the_name_is_a_regular_file_or_refused() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let places = Places::new(&[SINGLE]);
    let name = places.at("name/config-name");
    fs::write(places.at("secret"), "a100-40").unwrap();
    let mut source = places.source();
    source.load().unwrap();
    symlink(places.at("secret"), &name).unwrap();
    assert!(refusal(source.reload()).contains("it is a symbolic link"));
    fs::remove_file(&name).unwrap();
    mknodat(CWD, &name, FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert!(refusal(source.reload()).contains("it is a FIFO"));
    fs::remove_file(&name).unwrap();
    fs::create_dir(&name).unwrap();
    assert!(refusal(source.reload()).contains("it is a directory"));
    fs::remove_dir(&name).unwrap();
    let huge = fs::File::create(&name).unwrap();
    huge.set_len(1 << 40).unwrap();
    assert!(refusal(source.reload()).contains("more than 254 bytes"));
}
