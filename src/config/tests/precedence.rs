use super::*;

#[test]
fn a_flag_counts_before_the_environment_before_the_file_before_the_default() {
    let file = "flags:\n  migStrategy: single\n";
    let environment = &[("MIG_STRATEGY", "mixed")];
    let key = "flags.migStrategy";
    for (written, expected, origin) in [
        (Written::default(), MigStrategy::None, Origin::Default),
        (with_file(file), MigStrategy::Single, Origin::File { line: 2 }),
        (
            Written { environment, ..with_file(file) },
            MigStrategy::Mixed,
            Origin::Environment("MIG_STRATEGY"),
        ),
        (
            Written { environment, flags: &["--mig-strategy=none"], ..with_file(file) },
            MigStrategy::None,
            Origin::Flag("mig-strategy"),
        ),
    ] {
        let config = written.config();
        assert_eq!((config.layout.mig_strategy, config.origin(key)), (expected, &origin));
    }
}

#[test]
fn of_two_variables_the_first_in_the_table_counts() {
    let config = Written {
        environment: &[("NVIDIA_CTK_PATH", "/b"), ("NVIDIA_CDI_HOOK_PATH", "/a")],
        ..Written::default()
    }
    .config();
    assert_eq!(config.cdi.hook_path, "/a");
}

#[test]
fn an_empty_key_leaves_the_default_and_an_empty_switch_is_off() {
    assert_eq!(
        quiet("flags:\n  migStrategy:\n  plugin: ~\n").layout.mig_strategy,
        MigStrategy::None
    );
    let config =
        Written { environment: &[("FAIL_ON_INIT_ERROR", "")], ..Written::default() }.config();
    assert!(!config.process.nvml.fail_on_init_error);
}

#[test]
fn a_mistake_in_a_value_that_is_overridden_is_a_warning() {
    let written =
        Written { flags: &["--mig-strategy=none"], ..with_file("flags: {migStrategy: wrong}") };
    let warnings: Vec<_> = written.load().unwrap().warnings().collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].ends_with("(overridden by flag --mig-strategy)"), "{warnings:?}");
}

#[test]
fn a_list_of_a_flag_takes_the_place_of_the_whole_list_of_the_file() {
    let written = Written {
        flags: &["--device-list-strategy=cdi-cri"],
        ..with_file("flags: {plugin: {deviceListStrategy: envvar}}")
    };
    assert_eq!(written.config().injector.strategies, [DeviceListStrategy::CdiCri].into());
}
