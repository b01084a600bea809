use expect_test::expect_file;

use super::*;

const MANY: &str = "\
version: v1
flags:
  migStrategy: singel
  failOnInitErorr: false
  plugin:
    passDeviceSpecs: \"true\"
    deviceListStrategy:
      - envvar
      - cdi-cry
sharing:
  timeSlicing:
    resources:
      - name: NVIDIA.com/gpu
        replicas: 1
      - replicas: 4
devices: [0, GPU 3]
health:
  ignoredXIDs: [13, seven]
";

#[test]
fn every_mistake_in_all_sources_is_told_at_once() {
    let refused = Written {
        flags: &["--device-id-strategy=name", "--imex-channel-ids=3"],
        environment: &[("FAIL_ON_INIT_ERROR", "perhaps"), ("NVIDIA_DRIVER_ROOT", "driver")],
        file: Some(MANY),
    }
    .load()
    .unwrap_err();
    expect_file!["report.txt"].assert_eq(&format!("{refused}\n"));
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_who_asked_for_it() {
    let sources = crate::cli::Invocation::parse(["x".into()], |name| {
        (name == "CONFIG_FILE").then(|| "/none/c.yaml".into())
    });
    let refused = ConfigSource::new(sources.unwrap().sources).load().unwrap_err();
    let line =
        "environment CONFIG_FILE: \"/none/c.yaml\" cannot be read: No such file or directory";
    assert!(refused.to_string().contains(line), "{refused}");
}

#[test]
fn a_value_cannot_flood_or_colour_the_log() {
    let long = format!("flags: {{migStrategy: \"\\e[31m{}\"}}", "x".repeat(100_000));
    let mistakes = with_file(&long).mistakes();
    assert!(mistakes[0].len() < 400 && !mistakes[0].contains('\u{1b}'), "{}", mistakes[0]);
}

#[test]
fn show_prints_every_value_with_its_origin() {
    let config = Written {
        flags: &["--mig-strategy=single", "--config-file=/config/config.yaml"],
        environment: &[("PASS_DEVICE_SPECS", "true"), ("CDI_DISABLE_HOOKS", "all")],
        file: Some(
            "flags: {plugin: {customResources: true}}\nresources:\n  gpus:\n  - {pattern: \
                '*H100*', name: h100}\nsharing:\n  \
             timeSlicing:\n    resources:\n    - name: h100\n      replicas: 3\n      devices: [0, \
             '0:1']\n",
        ),
    }
    .config();
    let shown = show(&config, false);
    expect_file!["show.yaml"].assert_eq(&shown);
}

#[test]
fn what_is_shown_reads_back_as_the_same_configuration() {
    for (flags, file) in [
        (&[][..], ""),
        (
            &["--mps-root=/m"],
            "sharing: {mps: {renameByDefault: true, resources: [{name: gpu, replicas: 2}]}}",
        ),
        (
            &["--devices=0-3,!1,!model=*T400 4GB", "--imex-channel-ids=0", "--driver-root=/a b"],
            "flags: {plugin: {customResources: true, containerDriverRoot: \"/a: \
                #\\n\\\"b\"}}\nresources: {mig: [{pattern: '1g.*', name: small}]}\n\
             sharing: {timeSlicing: {resources: [{name: small, rename: tiny, replicas: 2, devices: \
             3}]}}\n\
             health: {criticalXIDs: all, xids: {94: event}, pollInterval: 1m30s, relapseWindow: \
             90m}",
        ),
    ] {
        let config = Written { flags, ..with_file(file) }.config();
        let shown = show(&config, false);
        let again = with_file(&shown).config();
        assert!(config.changes(&again).is_empty(), "{shown}\n{:?}", config.changes(&again));
    }
}

#[test]
fn every_key_is_shown_where_that_is_asked_for_and_reads_back() {
    let config = Written::default().config();
    let shown = show(&config, true);
    for setting in settings::all() {
        let name = setting.name().rsplit('.').next().unwrap_or_default();
        assert!(
            shown.lines().any(|line| line.trim_start().starts_with(&format!("{name}:"))),
            "{name}"
        );
    }
    for key in [
        "sharing:",
        "timeSlicing:",
        "mps",
        "renameByDefault:",
        "failRequestsGreaterThanOne:",
        "replicas:",
        "rename:",
        "devices: all",
        "gpus:",
        "mig:",
        "pattern:",
        "useNodeFeatureAPI",
        "sleepInterval",
    ] {
        assert!(shown.contains(key), "{key}: {shown}");
    }
    let loaded = with_file(&shown).load().unwrap_or_else(|refused| panic!("{refused}"));
    assert!(config.changes(&loaded.config).is_empty(), "{shown}");
    let warnings: Vec<_> = loaded.warnings().collect();
    assert!(warnings.len() == 1 && warnings[0].contains("commandLine: is ignored"), "{warnings:?}");
}
