//! One cause is one problem.

use device::testing::node;
use status::{Problem, Reason, Registration, Severity, Status};

use super::{status_of, xid};
use crate::observe::event_log::EventLog;

fn status(gpus: u32) -> Status {
    status_of(&node(gpus), &EventLog::default())
}

fn reason(status: &Status, kind: &str) -> Reason {
    Reason {
        kind: kind.to_owned(),
        xid: None,
        message: format!("it is {kind}"),
        remedy: Some(format!("end {kind}")),
        since: status.generated_at,
        part: None,
        remembered: false,
    }
}

/// The problems of GPUs with these causes and degradations.
fn of_gpus(gpus: &[(&[&str], &[&str])]) -> Vec<Problem> {
    let mut status = status(u32::try_from(gpus.len()).unwrap());
    for (index, (causes, degradations)) in gpus.iter().enumerate() {
        let reasons = |kinds: &[&str]| kinds.iter().map(|kind| reason(&status, kind)).collect();
        let (causes, degradations) = (reasons(causes), reasons(degradations));
        let gpu = &mut status.gpus[index];
        (gpu.reasons, gpu.degradations) = (causes, degradations);
        gpu.healthy = gpu.reasons.is_empty();
    }
    status.find_problems()
}

#[test]
fn what_comes_with_the_failure_of_a_gpu_is_told_with_it() {
    let problems = of_gpus(&[(&["lost", "not_enumerated", "recovery_action"], &[])]);
    let [problem] = &*problems else { panic!("{problems:#?}") };
    assert_eq!(problem.title(), "GPU 0 lost");
    assert_eq!(problem.message, "it is lost; also: it is not_enumerated; it is recovery_action");
    assert_eq!(problem.remedy.as_deref(), Some("end lost"), "of the worst");
    let problems = of_gpus(&[(&["recovery_action", "xid"], &["row_remap_pending"])]);
    assert_eq!(problems.len(), 1, "a failed GPU is not degraded beside that: {problems:#?}");
    assert_eq!(problems[0].severity, Severity::Error);
}

#[test]
fn what_has_a_cause_of_its_own_is_a_problem_of_its_own() {
    let kinds = |problems: Vec<Problem>| -> Vec<String> {
        problems.into_iter().map(|problem| problem.kind).collect()
    };
    assert_eq!(kinds(of_gpus(&[(&["xid", "external"], &[])])), ["xid", "external"]);
    let purpose = of_gpus(&[(&["external"], &[]), (&["xid"], &[])]);
    assert_eq!(kinds(purpose), ["xid", "external"], "what was done on purpose comes last");
    assert_eq!(kinds(of_gpus(&[(&["external"], &["no_events"])])), ["external", "no_events"]);
    assert_eq!(kinds(of_gpus(&[(&["row_remap_failure", "xid"], &[])])).len(), 2);
    // Of two MIG instances each has its own.
    let mut status = status(1);
    status.gpus[0].reasons = vec![reason(&status, "xid"), reason(&status, "xid")];
    for (number, reason) in status.gpus[0].reasons.iter_mut().enumerate() {
        reason.part = Some(format!("GPU instance {number}"));
    }
    assert_eq!(status.find_problems().len(), 2);
}

#[test]
fn gpus_that_fail_alike_are_one_problem_whatever_comes_with_it_on_one_of_them() {
    let problems = of_gpus(&[(&["lost"], &[]), (&["lost", "not_enumerated"], &[]), (&[], &[])]);
    assert_eq!((problems.len(), &*problems[0].subject), (1, "GPUs 0 and 1"), "{problems:#?}");
    assert!(problems[0].message.ends_with("also: it is not_enumerated"), "{problems:#?}");
}

#[test]
fn a_call_that_does_not_return_is_one_problem() {
    let mut status = status(2);
    status.nvml.unanswered_calls = 1;
    let problems = status.find_problems();
    assert_eq!(problems[0].message, "a call of NVML has not returned within its deadline");
    status.gpus[1].reasons = vec![reason(&status, "nvml_unresponsive")];
    let problems = status.find_problems();
    assert_eq!((problems.len(), &*problems[0].title()), (1, "GPU 1 does not respond"));
    status.gpus[1].reasons.clear();
    status.nvml.fault = Some(reason(&status, "nvml_unresponsive_node"));
    assert_eq!(status.find_problems().len(), 1);
}

#[test]
fn resources_that_are_not_registered_for_one_reason_are_one_problem() {
    let status = status(1);
    let resource = status.resources[0].clone();
    let named = |(number, problem): (usize, &str)| status::Resource {
        name: format!("nvidia.com/r{number}"),
        kubelet: Registration { problem: Some(problem.to_owned()), ..Registration::default() },
        ..resource.clone()
    };
    let subjects = |problems: &[&str]| -> Vec<String> {
        let mut status = status.clone();
        status.resources = problems.iter().copied().enumerate().map(named).collect();
        status.find_problems().into_iter().map(|problem| problem.subject).collect()
    };
    assert_eq!(subjects(&["no", "no"]), ["nvidia.com/r0, nvidia.com/r1"]);
    assert_eq!(subjects(&["no", "never"]).len(), 2);
    assert_eq!(subjects(&["no"; 5]), ["nvidia.com/r0, nvidia.com/r1 and 3 more"]);
}

#[test]
fn a_node_that_needs_no_driver_has_no_problem_without_one() {
    let mut none = status(0);
    none.nvml.fault = Some(reason(&none, "driver_not_loaded"));
    assert_eq!(none.find_problems()[0].severity, Severity::Warning);
    none.plugin.ready = false;
    assert_eq!(none.find_problems()[0].severity, Severity::Error);
    let (mut inventory, event_log) = (node(1), EventLog::default());
    xid(&mut inventory, &event_log, 0, 79, 40);
    let mut ready = status_of(&inventory, &event_log);
    ready.nvml.fault = Some(reason(&ready, "driver_not_loaded"));
    assert_eq!(ready.find_problems()[0].severity, Severity::Error, "it has a GPU");
}
