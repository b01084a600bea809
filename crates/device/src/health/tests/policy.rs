//! The configuration file and the two environment variables.

use std::collections::BTreeSet;

use super::*;

fn xids(numbers: &[u32]) -> BTreeSet<Xid> {
    numbers.iter().copied().map(Xid).collect()
}

fn action(policy: &HealthPolicy, number: u32) -> XidAction {
    policy.action(Xid(number))
}

#[test]
fn the_environment_does_what_nvidia_documents() {
    use XidAction::{Event, Ignore, RecoveryAction, Unhealthy};
    // DP_DISABLE_HEALTHCHECKS, DP_ENABLE_HEALTHCHECKS, and what 13, 48, 109 and 154 then do;
    // whether all is off.
    for (disable, enable, expected, off) in [
        ("", "", [Event, Unhealthy, RecoveryAction, RecoveryAction], false),
        ("48", "", [Event, Ignore, RecoveryAction, RecoveryAction], false),
        (" 48 ,, 109 ", "", [Event, Ignore, Ignore, RecoveryAction], false),
        ("48,109", "48", [Event, Unhealthy, Ignore, RecoveryAction], false),
        ("", "13,109", [Unhealthy, Unhealthy, Unhealthy, RecoveryAction], false),
        ("", "154", [Event, Unhealthy, RecoveryAction, Unhealthy], false),
        ("", "all", [Unhealthy, Unhealthy, Unhealthy, RecoveryAction], false),
        ("13", "all", [Unhealthy, Unhealthy, Unhealthy, RecoveryAction], false),
        ("all", "", [Ignore, Ignore, Ignore, Ignore], true),
        ("xids", "", [Ignore, Ignore, Ignore, Ignore], true),
        (" XIDs ", "", [Ignore, Ignore, Ignore, Ignore], true),
        ("13,ALL", "", [Ignore, Ignore, Ignore, Ignore], true),
        ("all", "48", [Ignore, Unhealthy, Ignore, Ignore], false),
        ("all", "all", [Unhealthy, Unhealthy, Unhealthy, Ignore], false),
    ] {
        let (overrides, findings) = Overrides::parse(disable, enable);
        assert_eq!(findings, [], "{disable:?} {enable:?}");
        let (policy, _) = HealthPolicy::new(HealthRules::default(), overrides);
        assert_eq!(
            [13, 48, 109, 154].map(|number| action(&policy, number)),
            expected,
            "{disable:?} {enable:?}"
        );
        assert_eq!(policy.is_off(), off, "{disable:?} {enable:?}");
    }
}

#[test]
fn malformed_tokens_are_left_out_and_reported() {
    let (overrides, findings) = Overrides::parse("48,x48,-1,+13,4 8,99999999999,0x10", "al1,64");
    assert_eq!(overrides.disable.xids, xids(&[48]));
    assert_eq!(overrides.enable.xids, xids(&[64]));
    assert!(!overrides.enable.all);
    let tokens: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(tokens.len(), 7);
    assert_eq!(
        tokens[0],
        "DP_DISABLE_HEALTHCHECKS: \"x48\" is not an Xid, \"all\" or \"xids\"; it is left out"
    );
    assert!(tokens[6].starts_with("DP_ENABLE_HEALTHCHECKS: \"al1\""));
}

#[test]
fn the_six_that_nvidia_ignores_leave_a_gpu_healthy_by_themselves() {
    for first in [well(), well_without_field()] {
        for number in [13, 31, 43, 45, 68, 109] {
            let mut bench = Bench::after(first.clone());
            bench.observe(xid(number));
            bench.poll(&first, 1);
            assert!(bench.is_healthy(), "Xid {number}");
        }
    }
}

#[test]
fn the_file_has_nvidias_keys_and_an_action_for_single_xids() {
    let rules = HealthRules {
        ignored: Some(xids(&[48, 62])),
        actions: [(Xid(62), XidAction::Event), (Xid(13), XidAction::Unhealthy)].into(),
        ..HealthRules::default()
    };
    let policy = policy(rules);
    assert_eq!(action(&policy, 48), XidAction::Ignore);
    assert_eq!(action(&policy, 62), XidAction::Event);
    assert_eq!(action(&policy, 13), XidAction::Unhealthy);
    assert_eq!(action(&policy, 95), XidAction::Unhealthy);
}

#[test]
fn critical_xids_are_those_listed_or_all_but_the_ignored() {
    let only = policy(HealthRules {
        critical: CriticalXids::Only(xids(&[48, 8])),
        ..HealthRules::default()
    });
    assert_eq!(
        [48, 8, 79, 74, 43].map(|number| action(&only, number)),
        [
            XidAction::Unhealthy,
            XidAction::Unhealthy,
            XidAction::Event,
            XidAction::Event,
            XidAction::Ignore,
        ]
    );
    let all = policy(HealthRules { critical: CriticalXids::All, ..HealthRules::default() });
    assert_eq!(
        [8, 13, 109, 154].map(|number| action(&all, number)),
        [
            XidAction::Unhealthy,
            XidAction::Event,
            XidAction::RecoveryAction,
            XidAction::RecoveryAction,
        ]
    );
    let all = policy(HealthRules {
        critical: CriticalXids::All,
        ignored: Some(xids(&[8])),
        ..HealthRules::default()
    });
    assert_eq!(
        [8, 13].map(|number| action(&all, number)),
        [XidAction::Ignore, XidAction::Unhealthy]
    );
}

#[test]
fn the_environment_stands_above_the_file() {
    let rules = HealthRules {
        disabled: true,
        actions: [(Xid(64), XidAction::Unhealthy)].into(),
        ..HealthRules::default()
    };
    let (policy, _) = HealthPolicy::new(rules.clone(), Overrides::parse("", "48").0);
    assert_eq!(
        [48, 64].map(|number| action(&policy, number)),
        [XidAction::Unhealthy, XidAction::Ignore]
    );
    let (policy, _) =
        HealthPolicy::new(HealthRules { disabled: false, ..rules }, Overrides::parse("64", "").0);
    assert_eq!(action(&policy, 64), XidAction::Ignore);
}

#[test]
fn what_contradicts_itself_is_reported() {
    let rules = HealthRules {
        ignored: Some(xids(&[48, 13])),
        critical: CriticalXids::Only(xids(&[48])),
        event_types: [EventType::DoubleBitEccError].into(),
        ..HealthRules::default()
    };
    let (policy, findings) = HealthPolicy::new(rules, Overrides::default());
    assert_eq!(findings, [PolicyFinding::Contradiction(Xid(48)), PolicyFinding::XidsNotRegistered]);
    assert_eq!(action(&policy, 48), XidAction::Ignore);
    assert_eq!(policy.event_types(), [EventType::DoubleBitEccError].into());
    assert_eq!(HealthPolicy::default().event_types().len(), EventType::ALL.len());
}

#[test]
fn with_health_checking_off_only_discovery_and_people_make_a_gpu_unhealthy() {
    let (off, _) = HealthPolicy::new(
        HealthRules { disabled: true, ..HealthRules::default() },
        Overrides::default(),
    );
    let mut bench = Bench::with(off, asks_for(RecoveryAction::GpuReset));
    for observation in [
        xid(79),
        Observation::Failed(error(15)),
        Observation::Failed(error(16)),
        Observation::TimedOut { call: "x" },
        Observation::Event(EventType::FatalPoisonError),
    ] {
        bench.observe(observation);
    }
    bench.poll(
        &Reading {
            remapped_rows: Some(Ok(RemappedRows { pending: true, failure: true })),
            ..well()
        },
        5,
    );
    assert!(bench.is_healthy());
    assert_eq!(bench.gpu.xids().get(&Xid(79)), Some(&1), "it is counted all the same");
    bench.observe(Observation::NotEnumerated { session: 1, complete: true });
    bench.observe(Observation::Quarantine(Some("x".into())));
    assert_eq!(bench.cause_names(), ["not_enumerated", "external"]);
}

#[test]
fn all_disabled_and_one_enabled_watches_that_one() {
    let (policy, _) = HealthPolicy::new(HealthRules::default(), Overrides::parse("all", "48").0);
    let mut bench = Bench::with(policy, well());
    bench.observe(xid(79));
    assert!(bench.is_healthy());
    bench.observe(xid(48));
    assert_eq!(bench.cause_names(), ["xid"]);
    bench.poll(&well(), 2);
    assert!(bench.is_healthy());
}

#[test]
fn with_health_checking_off_nothing_latches() {
    let (off, _) = HealthPolicy::new(HealthRules::default(), Overrides::parse("all", "").0);
    let mut bench = Bench::with(off, well());
    for _ in 0..20 {
        bench.observe(Observation::NotEnumerated { session: 1, complete: true });
        bench.observe(Observation::Enumerated { session: 1 });
        bench.poll(&well(), 2);
        assert!(bench.is_healthy());
    }
}
