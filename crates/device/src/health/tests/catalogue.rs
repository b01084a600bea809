//! Every Xid: its class, and what it does to a GPU under drivers with and without the recovery
//! action.

use std::collections::BTreeSet;

use super::*;

/// What became of a GPU after an Xid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Healthy, and not reported.
    Silent,
    /// Healthy, and reported.
    Reported,
    /// Unhealthy.
    Unhealthy,
}
use Then::*;
use XidClass::*;

/// Numbers; class; with the recovery action (which is none); without it.
const TABLE: &[(&[u32], XidClass, Then, Then)] = &[
    (&[8, 11, 13, 25, 31, 32], App, Reported, Reported),
    (&[14, 37, 38, 43, 44], Info, Silent, Silent),
    (&[39, 40, 41, 70, 71, 72, 75, 76, 77, 85], App, Reported, Reported),
    (&[126, 127, 128, 129, 130, 131, 132, 133, 134, 135], App, Reported, Reported),
    (&[45], Companion, Silent, Silent),
    (&[46, 48], Fatal, Unhealthy, Unhealthy),
    (&[54], Sticky, Unhealthy, Unhealthy),
    (&[60], App, Reported, Reported),
    (&[62], Fatal, Unhealthy, Unhealthy),
    (&[63], Pending, Reported, Reported),
    (&[64], Fatal, Unhealthy, Unhealthy),
    (&[66, 67], Info, Silent, Silent),
    (&[68, 69], App, Reported, Reported),
    (&[74], Presumed, Reported, Unhealthy),
    (&[78], Config, Reported, Reported),
    (&[79], Lost, Unhealthy, Unhealthy),
    (&[80, 82, 99, 100, 101, 102, 103, 104, 105], App, Reported, Reported),
    (&[83, 84, 88, 89, 96, 97, 98, 86], App, Reported, Reported),
    (&[92, 93], Info, Silent, Silent),
    (&[94], Contained, Reported, Reported),
    (&[95], Fatal, Unhealthy, Unhealthy),
    (&[106, 107], Info, Silent, Silent),
    (&[109], Disputed, Reported, Reported),
    (&[110, 119, 120], Fatal, Unhealthy, Unhealthy),
    (&[121], Info, Silent, Silent),
    (&[123], Suspect, Reported, Reported),
    (&[136], Fatal, Unhealthy, Unhealthy),
    (&[137, 139], App, Reported, Reported),
    (&[140], Fatal, Unhealthy, Unhealthy),
    (&[141], App, Reported, Reported),
    (&[142], Suspect, Reported, Reported),
    (&[143], Fatal, Unhealthy, Unhealthy),
    (&[144, 145, 146, 147, 148, 149, 150], Suspect, Reported, Reported),
    (&[151], Sticky, Unhealthy, Unhealthy),
    (&[152, 153], Info, Silent, Silent),
    (&[154], Trigger, Reported, Reported),
    (&[155], Fatal, Unhealthy, Unhealthy),
    (&[156], Presumed, Reported, Unhealthy),
    (&[157], Suspect, Reported, Reported),
    (&[158], Fatal, Unhealthy, Unhealthy),
    (&[159], Suspect, Reported, Reported),
    (&[160, 161, 162, 163, 164], Info, Silent, Silent),
    (&[165, 166], Suspect, Reported, Reported),
    (&[167], Fatal, Unhealthy, Unhealthy),
    (&[168], Suspect, Reported, Reported),
    (&[169], Fatal, Unhealthy, Unhealthy),
    (&[170], Suspect, Reported, Reported),
    (&[171, 172], Detail, Silent, Silent),
    // Unused in the catalogue, and beyond it.
    (
        &[1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24],
        Suspect,
        Reported,
        Reported,
    ),
    (
        &[26, 27, 28, 29, 30, 33, 34, 35, 36, 42, 47, 49, 50, 51, 52, 53, 55],
        Suspect,
        Reported,
        Reported,
    ),
    (
        &[56, 57, 58, 59, 61, 65, 73, 81, 87, 90, 91, 108, 111, 112, 113, 114],
        Suspect,
        Reported,
        Reported,
    ),
    (
        &[115, 116, 117, 118, 122, 124, 125, 138, 0, 173, 1000, u32::MAX],
        Suspect,
        Reported,
        Reported,
    ),
];

fn after(first: Reading, number: u32) -> Then {
    let mut bench = Bench::after(first);
    let change = bench.observe(xid(number));
    match (bench.is_healthy(), change.notices.is_empty()) {
        (false, _) => Unhealthy,
        (true, false) => Reported,
        (true, true) => Silent,
    }
}

#[test]
fn every_xid_has_its_class_and_does_what_the_class_says() {
    for (numbers, class, with_field, without_field) in TABLE {
        for number in *numbers {
            assert_eq!(Xid(*number).class(), *class, "class of Xid {number}");
            assert_eq!(
                after(well(), *number),
                *with_field,
                "Xid {number}, with the recovery action"
            );
            assert_eq!(
                after(well_without_field(), *number),
                *without_field,
                "Xid {number}, without it"
            );
        }
    }
}

#[test]
fn the_effect_that_is_documented_is_what_happens() {
    let then = |effect| match effect {
        XidEffect::Counted => Silent,
        XidEffect::Logged | XidEffect::Degraded | XidEffect::RecoveryAction => Reported,
        XidEffect::Unhealthy => Unhealthy,
    };
    for (numbers, class, with_field, without_field) in TABLE {
        assert_eq!(then(class.effect(true)), *with_field, "{numbers:?}, with the recovery action");
        assert_eq!(then(class.effect(false)), *without_field, "{numbers:?}, without it");
    }
    for number in [63, 94] {
        let mut bench = Bench::after(well());
        bench.observe(xid(number));
        let is_degraded = !bench.gpu.degradations().is_empty();
        assert!(is_degraded || number == 63, "Xid {number}: 63 is degraded by the next reading");
        assert_eq!(Xid(number).class().effect(true), XidEffect::Degraded);
    }
}

#[test]
fn the_catalogue_lists_the_numbers_that_it_describes() {
    let listed: Vec<u32> = Xid::known().map(|xid| xid.0).collect();
    let rows = &TABLE[..TABLE.len() - 4];
    let mut described: Vec<u32> = rows.iter().flat_map(|row| row.0).copied().collect();
    described.sort_unstable();
    assert_eq!(listed, described);
    for class in XidClass::ALL {
        assert!(Xid::known().any(|xid| xid.class() == class), "no Xid is of the class {class:?}");
    }
}

#[test]
fn what_nvidia_recommends_does_not_contradict_the_class() {
    for xid in Xid::known() {
        let fatal = matches!(xid.class(), Fatal | Lost | Sticky);
        let mild = matches!(xid.nvidia_action(), NvidiaAction::Ignore | NvidiaAction::RestartApp);
        assert!(!(fatal && mild), "{xid}: {:?}, {:?}", xid.class(), xid.nvidia_action());
    }
}

#[test]
fn each_of_nvidias_actions_has_a_word_and_a_meaning_of_its_own() {
    let actions: Vec<_> = Xid::known().map(Xid::nvidia_action).collect();
    let number = actions.iter().map(|of| format!("{of:?}")).collect::<BTreeSet<_>>().len();
    assert_eq!(actions.iter().map(|of| of.as_str()).collect::<BTreeSet<_>>().len(), number);
    assert_eq!(actions.iter().map(|of| of.meaning()).collect::<BTreeSet<_>>().len(), number);
    let action = Xid(8).nvidia_action();
    assert_eq!(
        (action.as_str(), action.meaning()),
        (Some("RESTART_APP"), "restart the application")
    );
}

#[test]
fn each_class_has_a_meaning_of_its_own_and_a_remedy() {
    let classes = XidClass::ALL;
    assert_eq!(classes.map(XidClass::meaning).into_iter().collect::<BTreeSet<_>>().len(), 14);
    for (class, says) in [
        (Lost, "reboot the node"),
        (Sticky, "reboot the node"),
        (Fatal, "drain the GPU and reset it"),
        (Suspect, "look at the kernel log"),
        (Contained, "when convenient"),
        (App, "change the policy"),
    ] {
        assert!(class.remedy().contains(says), "{class:?}: {}", class.remedy());
    }
}

#[test]
fn the_table_has_every_number_once() {
    let mut numbers: Vec<u32> = TABLE.iter().flat_map(|row| row.0).copied().collect();
    numbers.sort_unstable();
    let expected: Vec<u32> = (0..=173).chain([1000, u32::MAX]).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn only_what_is_not_in_the_catalogue_is_said_not_to_be() {
    let known =
        (0..=200).filter(|number| Xid(*number).meaning() != "not in NVIDIA's catalogue").count();
    let described: usize = TABLE[..TABLE.len() - 4].iter().map(|row| row.0.len()).sum();
    assert_eq!(known, described);
}

#[test]
fn a_suspect_is_unhealthy_as_soon_as_the_driver_asks_for_something() {
    for number in [74, 109, 123, 144, 154, 156, 7, 4711] {
        let mut bench = Bench::after(well());
        bench.observe(xid(number));
        assert_eq!(bench.gpu.next_reading(), Some(bench.now), "Xid {number}: it is read at once");
        bench.observe(Observation::Reading(asks_for(RecoveryAction::GpuReset)));
        assert_eq!(bench.cause_names(), ["recovery_action"], "Xid {number}");
    }
}

#[test]
fn a_suspect_whose_recovery_action_cannot_be_read_is_unhealthy() {
    for number in [74, 109, 154, 4711] {
        let mut bench = Bench::after(well());
        let unreadable = Reading { recovery_action: Some(Err(error(999))), ..well() };
        bench.observe(Observation::Reading(unreadable.clone()));
        assert!(bench.is_healthy(), "without an alarm one failure is tolerated");
        bench.observe(xid(number));
        bench.observe(Observation::Reading(unreadable));
        assert_eq!(bench.cause_names(), ["nvml_error"], "Xid {number}");
    }
}
