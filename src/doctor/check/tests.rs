//! The answers of each rule, with a running plugin and without.

use device::testing::node;
use status::{NvmlState, Reason, Status, Timestamp};

use super::*;
use crate::doctor::facts::SocketProbe;
use crate::observe::event_log::EventLog;
use crate::observe::tests::{states, status_of, xid};

fn status(xids: &[(u32, u32)]) -> Status {
    let (mut inventory, event_log) = (node(8), EventLog::default());
    for (index, number) in xids {
        xid(&mut inventory, &event_log, *index, *number, 40);
    }
    status_of(&inventory, &event_log)
}

#[track_caller]
fn says(rule: Rule, status: Status, state: CheckState, line: &str) {
    assert_eq!(evaluate(rule, &Ok(status)), CheckResult { state, line: line.to_owned() });
}

#[test]
fn gpus_that_are_not_healthy_are_named_with_their_reason() {
    says(Rule::Gpus, status(&[]), CheckState::Ok, "8 GPUs Healthy");
    says(Rule::Gpus, status(&[(3, 79)]), CheckState::NonOk, "1/8 GPUs Unhealthy: 3 Xid 79");
    says(
        Rule::Gpus,
        status(&[(3, 79), (5, 95)]),
        CheckState::NonOk,
        "2/8 GPUs Unhealthy: 3 Xid 79, 5 Xid 95",
    );
    let mut reserved = status(&[(3, 79)]);
    reserved.gpus[3].reserved = Some("excluded".to_owned());
    says(Rule::Gpus, reserved, CheckState::Ok, "7 GPUs Healthy");
    let mut lost = status(&[(3, 79)]);
    lost.gpus[3].reasons[0].xid = None;
    lost.gpus[3].reasons[0].kind = "not_enumerated".to_owned();
    says(Rule::Gpus, lost, CheckState::NonOk, "1/8 GPUs Unhealthy: 3 not listed by NVML");
    let mut none = status(&[]);
    none.gpus.clear();
    assert_eq!(evaluate(Rule::Gpus, &Ok(none.clone())).state, CheckState::NonOk);
    none.nvml.state = NvmlState::Down;
    // Before anything was heard, and with a fault by which nothing was seen.
    for rule in [Rule::Gpus, Rule::Nvml, Rule::All] {
        assert_eq!(evaluate(rule, &Ok(none.clone())).state, CheckState::Unknown);
    }
    none.nvml.fault = Some(status(&[(3, 79)]).gpus[3].reasons[0].clone());
    assert_eq!(evaluate(Rule::Gpus, &Ok(none.clone())).state, CheckState::Unknown);
    none.gpu_counts.bus = Some(8);
    let expected = "none of 8 GPUs on the bus is offered";
    says(Rule::Gpus, none, CheckState::NonOk, expected);
}

#[test]
fn each_state_has_its_answers() {
    let mut text = String::new();
    for (name, status) in states::all() {
        text += &format!("{name}\n");
        for (word, rule) in Rule::WORDS {
            let CheckResult { state, line } = evaluate(rule, &Ok(status.clone()));
            text += &format!("  {word:<12}  {}  {line}\n", state.exit_code());
        }
    }
    expect_test::expect_file!["states.txt"].assert_eq(&text);
}

#[test]
fn a_resource_that_is_not_registered_is_named() {
    says(Rule::Registration, status(&[]), CheckState::Ok, "registered: nvidia.com/gpu");
    let mut lost = status(&[]);
    lost.resources[0].kubelet.registered = false;
    lost.resources[0].kubelet.problem = Some("the kubelet is not there".to_owned());
    says(
        Rule::Registration,
        lost.clone(),
        CheckState::NonOk,
        "nvidia.com/gpu: the kubelet is not there",
    );
    lost.resources.clear();
    assert_eq!(evaluate(Rule::Registration, &Ok(lost)).state, CheckState::NonOk);
}

#[test]
fn nvml_that_is_down_or_hangs_is_not_ok() {
    says(Rule::Nvml, status(&[]), CheckState::Ok, "NVML answers, driver 570.86.15");
    let mut hangs = status(&[]);
    hangs.nvml.unanswered_calls = 1;
    says(Rule::Nvml, hangs, CheckState::NonOk, "NVML hangs: 1 call does not return");
    let mut down = status(&[]);
    down.nvml.state = NvmlState::Down;
    down.nvml.fault = Some(Reason {
        kind: "driver_not_loaded".to_owned(),
        xid: None,
        message: "the NVIDIA driver is not loaded".to_owned(),
        remedy: None,
        since: Timestamp::of(std::time::SystemTime::UNIX_EPOCH),
        part: None,
        remembered: false,
    });
    says(Rule::Nvml, down, CheckState::NonOk, "NVML: the NVIDIA driver is not loaded");
    let mut release = status(&[]);
    release.nvml.state = NvmlState::Released;
    let released = "NVML is released for the reset of a GPU";
    says(Rule::Nvml, release.clone(), CheckState::Unknown, released);
    let gpus = format!("{released}; before: 8 GPUs Healthy");
    says(Rule::Gpus, release, CheckState::Unknown, &gpus);
}

#[test]
fn all_of_them_is_the_worst_of_them() {
    let all = "NVML answers, driver 570.86.15; 8 GPUs Healthy; registered: nvidia.com/gpu";
    says(Rule::All, status(&[]), CheckState::Ok, all);
    says(Rule::All, status(&[(3, 79)]), CheckState::NonOk, "1/8 GPUs Unhealthy: 3 Xid 79");
}

/// All that can be seen, and it is as it should be.
fn visible() -> FallbackFacts {
    FallbackFacts {
        error: "no answer".to_owned(),
        module: Some(true),
        directory: None,
        served: vec!["gpu".to_owned()],
        silent: Vec::new(),
        rivals: Vec::new(),
        registration: Some(SocketProbe::Answers),
        allocatable: Ok([("nvidia.com/gpu".to_owned(), 8)].into()),
    }
}

#[test]
fn without_the_daemon_only_what_is_visible_counts() {
    let facts = visible();
    let says = |rule, facts: &FallbackFacts| evaluate(rule, &Err(facts.clone())).state;
    assert_eq!(says(Rule::Registration, &facts), CheckState::Ok);
    assert_eq!(says(Rule::Gpus, &facts), CheckState::Unknown);
    assert_eq!(says(Rule::Nvml, &facts), CheckState::Unknown);
    assert_eq!(says(Rule::All, &facts), CheckState::Unknown);
    let unloaded = FallbackFacts { module: Some(false), ..facts.clone() };
    assert_eq!(says(Rule::Nvml, &unloaded), CheckState::NonOk);
    let unseen = FallbackFacts { module: None, ..facts.clone() };
    assert_eq!(says(Rule::Nvml, &unseen), CheckState::Unknown);
}

#[test]
fn a_registration_that_cannot_be_seen_is_neither_there_nor_missing() {
    // Another plugin's, in the same domain.
    let allocatable = Ok([("nvidia.com/hostdev".to_owned(), 3)].into());
    let facts = FallbackFacts { allocatable, ..visible() };
    let says = |change: fn(&mut FallbackFacts)| {
        let mut facts = facts.clone();
        change(&mut facts);
        evaluate(Rule::Registration, &Err(facts)).state
    };
    assert_eq!(says(|_| {}), CheckState::NonOk);
    assert_eq!(says(|facts| facts.served.clear()), CheckState::NonOk);
    let hung: fn(&mut FallbackFacts) = |facts| {
        facts.served.clear();
        facts.silent.push("nvidia-gpu-ju1vfhy7.sock".to_owned());
    };
    assert_eq!(says(hung), CheckState::Unknown);
    let no_kubelet: fn(&mut FallbackFacts) =
        |facts| facts.registration = Some(SocketProbe::Refused);
    assert_eq!(says(no_kubelet), CheckState::NonOk);
    let silent: fn(&mut FallbackFacts) = |facts| facts.allocatable = Err("no".to_owned());
    assert_eq!(says(silent), CheckState::Unknown);
    let ours: fn(&mut FallbackFacts) =
        |facts| facts.allocatable = Ok([("nvidia.com/gpu".to_owned(), 8)].into());
    assert_eq!(says(ours), CheckState::Ok);
    let twice: fn(&mut FallbackFacts) = |facts| {
        facts.allocatable = Ok([("nvidia.com/gpu".to_owned(), 8)].into());
        facts.served.push("gpu".to_owned());
    };
    assert_eq!(says(twice), CheckState::NonOk);
    let rival: fn(&mut FallbackFacts) = |facts| {
        facts.allocatable = Ok([("nvidia.com/gpu".to_owned(), 8)].into());
        facts.rivals.push("nvidia-gpu.sock".to_owned());
    };
    assert_eq!(says(rival), CheckState::NonOk);
    let elsewhere: fn(&mut FallbackFacts) = |facts| facts.directory = Some("no".to_owned());
    assert_eq!(says(elsewhere), CheckState::Unknown);
}

#[test]
fn a_line_has_whole_characters_and_no_more_bytes_than_allowed() {
    assert_eq!(truncate("8 GPUs Healthy", 80), "8 GPUs Healthy");
    assert_eq!(truncate("a\n\u{1b}b", 80), "a\\n\\u{1b}b");
    assert_eq!(truncate(&"x".repeat(81), 80), format!("{}...", "x".repeat(77)));
    assert_eq!(truncate("ééééé", 8), "éé...");
    for longest in 0..12 {
        assert!(truncate("ééééééé", longest).len() <= longest);
    }
}
