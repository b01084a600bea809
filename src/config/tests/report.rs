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
    let refused = ConfigSource::new(sources.unwrap().sources).load(Purpose::Serve).unwrap_err();
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
    let shown = show(&config);
    assert_eq!(shown, include_str!("show.yaml"), "{shown}");
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
        let shown = show(&config);
        let again = with_file(&shown).config();
        assert!(config.changes(&again).is_empty(), "{shown}\n{:?}", config.changes(&again));
    }
}
