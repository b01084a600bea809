//! Any configuration either parses or is refused with located mistakes. Failing cases are kept in
//! `properties.regressions` beside this file.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;

/// Files that are odd each in its own way, and are mutated too.
const SEEDS: &[&[u8]] = &[
    include_bytes!("show.yaml"),
    include_bytes!("seeds/aliases.yaml"),
    include_bytes!("seeds/block.yaml"),
    include_bytes!("seeds/custom.yaml"),
    include_bytes!("seeds/durations.yaml"),
    include_bytes!("seeds/everything.json"),
    include_bytes!("seeds/merge.yaml"),
    include_bytes!("seeds/mistakes.yaml"),
    include_bytes!("seeds/nothing.yaml"),
    include_bytes!("seeds/scalars.yaml"),
];

#[test]
fn files_that_are_kept_parse_or_are_refused() {
    for seed in SEEDS {
        holds(seed.to_vec())
            .unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(seed)));
    }
}

/// What holds of every reading: no panic, and a refusal says what is wrong and where.
fn holds(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let file = FileText { path: "c.yaml".into(), content: Ok(bytes) };
    match load(&Sources::default(), Some(&file), Purpose::Serve) {
        Ok(loaded) => {
            let shown = show(&loaded.config, false);
            let again = FileText { path: "c.yaml".into(), content: Ok(shown.clone().into_bytes()) };
            let again = load(&Sources::default(), Some(&again), Purpose::Serve);
            let again =
                again.map_err(|refused| TestCaseError::fail(format!("{refused}\n{shown}")))?.config;
            prop_assert!(loaded.config.changes(&again).is_empty(), "{shown}");
        }
        Err(refused) => {
            prop_assert!(!refused.0.mistakes.is_empty());
            for mistake in &refused.0.mistakes {
                prop_assert!(matches!(mistake.origin, Origin::File { line: 1.. }), "{mistake:?}");
                prop_assert!(!mistake.problem.is_empty());
            }
        }
    }
    Ok(())
}

/// A scalar that may or may not be allowed where it stands.
fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("true".to_owned()),
        Just("none".to_owned()),
        Just("mixed".to_owned()),
        Just("envvar".to_owned()),
        Just("all".to_owned()),
        Just("~".to_owned()),
        Just("nvidia.com/gpu".to_owned()),
        Just("mig-1g.5gb".to_owned()),
        Just("\"0:1\"".to_owned()),
        Just("10s".to_owned()),
        Just("/run".to_owned()),
        Just("v1".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        (0..40_u32).prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        "\\PC{0,12}".prop_map(|text| format!("{text:?}")),
    ]
}

/// A key, nearly always a known one.
fn key() -> impl Strategy<Value = String> {
    let known = [
        "version",
        "flags",
        "plugin",
        "gfd",
        "sharing",
        "timeSlicing",
        "mps",
        "resources",
        "gpus",
        "mig",
        "pattern",
        "name",
        "replicas",
        "rename",
        "devices",
        "include",
        "exclude",
        "health",
        "xids",
        "94",
        "ignoredXIDs",
        "criticalXIDs",
        "eventTypes",
        "disabled",
        "relapses",
        "imex",
        "channelIDs",
        "required",
        "migStrategy",
        "mpsRoot",
        "nvidiaDriverRoot",
        "deviceListStrategy",
        "customResources",
        "renameByDefault",
        "failRequestsGreaterThanOne",
        "sleepInterval",
        "pollInterval",
        "commandLine",
        "<<",
    ];
    prop_oneof![
        20 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => "[a-zA-Z]{1,8}",
    ]
}

/// A document in flow style, which is JSON but for the missing quotes.
fn document() -> impl Strategy<Value = String> {
    scalar().prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            proptest::collection::vec((key(), inner), 0..6).prop_map(|entries| {
                let entries: Vec<_> =
                    entries.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", entries.join(", "))
            }),
        ]
    })
}

/// A document that is right in most places, and may be wrong in a few.
fn likely() -> impl Strategy<Value = String> {
    let mostly = |right: &'static [&'static str]| {
        prop_oneof![
            9 => proptest::sample::select(right.to_vec()).prop_map(str::to_owned),
            1 => scalar(),
        ]
    };
    let resource = (
        mostly(&["gpu", "nvidia.com/gpu", "mig-1g.5gb", "a100"]),
        mostly(&["2", "10", "128"]),
        mostly(&["all", "3", "[0, 1]", "[GPU-1]"]),
        mostly(&["~", "small", "nvidia.com/gpu.shared"]),
    );
    let resource = resource.prop_map(|(name, replicas, devices, rename)| {
        format!("{{name: {name}, replicas: {replicas}, devices: {devices}, rename: {rename}}}")
    });
    (
        mostly(&["none", "single", "mixed"]),
        mostly(&["true", "false"]),
        mostly(&["timeSlicing", "mps"]),
        proptest::collection::vec(resource, 1..4),
        mostly(&["~", "[0, '!1']", "{exclude: [model=*T400]}", "0-3"]),
        mostly(&["{}", "{xids: {94: event}}", "{pollInterval: 5s, ignoredXIDs: [1, 2]}"]),
    )
        .prop_map(|(mig, custom, kind, resources, devices, health)| {
            format!(
                "version: v1\nflags:\n  migStrategy: {mig}\n  mpsRoot: /m\n  plugin: \
                    {{customResources: {custom}}}\nsharing:\n  \
                 {kind}:\n    resources: [{}]\ndevices: {devices}\nhealth: {health}\n",
                resources.join(", ")
            )
        })
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_document_parses_or_is_refused(text in document()) {
        holds(text.into_bytes())?;
    }

    #[test]
    fn a_likely_document_parses_or_is_refused(text in likely()) {
        holds(text.into_bytes())?;
    }

    #[test]
    fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        holds(bytes)?;
    }

    #[test]
    fn any_text_of_yaml_characters_parses_or_is_refused(
        text in "[a-c0-9:{}\\[\\],&*!|>'\"%@`#?<~ \\n\\t-]{0,120}",
    ) {
        holds(text.into_bytes())?;
    }

    #[test]
    fn a_mutation_of_a_kept_file_parses_or_is_refused(
        seed in proptest::sample::select(SEEDS),
        changes in proptest::collection::vec(
            (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8),
            1..5,
        ),
    ) {
        let mut bytes = seed.to_vec();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len() + 1);
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                _ => bytes.insert(at, byte),
            }
        }
        holds(bytes)?;
    }

    #[test]
    fn any_flag_and_variable_is_taken_or_told(
        value in "\\PC{0,30}",
        which in any::<prop::sample::Index>(),
    ) {
        let settings: Vec<_> = super::settings::all().collect();
        let setting = settings[which.index(settings.len())];
        let flag = setting
            .flag
            .filter(|flag| *flag != "config-file")
            .map(|flag| format!("--{flag}={value}"));
        let flags: Vec<&str> = flag.iter().map(String::as_str).collect();
        let environment: Vec<_> = setting
            .env
            .iter()
            .filter(|name| **name != "CONFIG_FILE")
            .map(|name| (*name, value.as_str()))
            .collect();
        let written = Written { flags: &flags, environment: &environment, file: None };
        if let Err(refused) = written.load() {
            prop_assert!(
                refused.0.mistakes.iter().all(|mistake| mistake.origin != Origin::Default)
            );
        }
    }
}
