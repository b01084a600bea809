//! One question about the node in one line, for node problem detector's custom plugin monitor: exit
//! code 0 for OK, 1 for NonOK, 2 for Unknown, and a text that it cuts off at 80 bytes.

use status::{Gpu, NvmlState, Status};

/// What is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rule {
    /// Is every GPU Healthy?
    Gpus,
    /// Is every resource registered with the kubelet, and watched by it?
    Registration,
    /// Does NVML answer?
    Nvml,
    /// All of these, the worst first.
    #[default]
    All,
}

impl Rule {
    /// The words of the command line.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("gpus", Self::Gpus),
        ("registration", Self::Registration),
        ("nvml", Self::Nvml),
        ("all", Self::All),
    ];
}

/// How the answer is, in the order of how bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Ok,
    /// It cannot be told.
    Unknown,
    /// Not as it should be.
    NonOk,
}

impl State {
    /// The exit code that node problem detector takes for it.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::NonOk => 1,
            Self::Unknown => 2,
        }
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it is.
    pub state: State,
    /// One line about it.
    pub line: String,
}

/// What can be seen without a daemon that answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// Why the daemon was not heard.
    pub unheard: String,
    /// Whether NVIDIA's kernel module is loaded.
    pub module: bool,
    /// How many sockets of the plugin are served in the kubelet's directory.
    pub served: usize,
    /// How many devices of NVIDIA's the kubelet knows, by its checkpoint.
    pub known: Option<usize>,
}

/// Judges what a daemon says, or what can be seen without one.
#[must_use]
pub fn judge(rule: Rule, seen: &Result<Status, Outside>) -> Outcome {
    let of = |rule| match seen {
        Ok(status) => by_status(rule, status),
        Err(outside) => from_outside(rule, outside),
    };
    match rule {
        Rule::All => {
            let all = [Rule::Nvml, Rule::Gpus, Rule::Registration].map(of);
            let worst = all.iter().map(|outcome| outcome.state).max().unwrap_or(State::Unknown);
            match worst {
                State::Ok => all.into_iter().reduce(|a, b| ok(format!("{}; {}", a.line, b.line))),
                worst => all.into_iter().find(|outcome| outcome.state == worst),
            }
            .unwrap_or_else(|| unknown("nothing was asked".to_owned()))
        }
        rule => of(rule),
    }
}

fn ok(line: String) -> Outcome {
    Outcome { state: State::Ok, line }
}

fn non_ok(line: String) -> Outcome {
    Outcome { state: State::NonOk, line }
}

fn unknown(line: String) -> Outcome {
    Outcome { state: State::Unknown, line }
}

fn by_status(rule: Rule, status: &Status) -> Outcome {
    match rule {
        Rule::Gpus => gpus(status),
        Rule::Registration => registration(status),
        Rule::Nvml | Rule::All => nvml(status),
    }
}

fn gpus(status: &Status) -> Outcome {
    let offered: Vec<&Gpu> = status.gpus.iter().filter(|gpu| gpu.reserved.is_none()).collect();
    let bad: Vec<&&Gpu> = offered.iter().filter(|gpu| !gpu.healthy).collect();
    if offered.is_empty() {
        return match status.nvml.state {
            NvmlState::Up => non_ok("no GPU on this node, or none that is offered".to_owned()),
            _ => unknown("NVML is down, and no GPU was ever seen".to_owned()),
        };
    }
    if bad.is_empty() {
        return ok(format!("{} Healthy", counted(offered.len(), "GPU")));
    }
    // Which ones and why comes first where there is room for it: the line is cut off.
    let which: Vec<String> = bad.iter().map(|gpu| format!("{}{}", gpu.index, why(gpu))).collect();
    non_ok(format!("{}/{} GPUs Unhealthy: {}", bad.len(), offered.len(), which.join(", ")))
}

/// The worst reason in two words.
fn why(gpu: &Gpu) -> String {
    match gpu.reasons.first() {
        Some(reason) => match reason.xid {
            Some(xid) => format!(" Xid {xid}"),
            None => format!(" {}", reason.kind.replace('_', " ")),
        },
        None => String::new(),
    }
}

fn registration(status: &Status) -> Outcome {
    if status.resources.is_empty() {
        return non_ok("no resource to register: no GPU is offered".to_owned());
    }
    let missing: Vec<_> =
        status.resources.iter().filter(|resource| !resource.kubelet.registered).collect();
    match missing.first() {
        None => {
            let names: Vec<&str> =
                status.resources.iter().map(|resource| resource.name.as_str()).collect();
            ok(format!("registered: {}", names.join(", ")))
        }
        Some(first) => {
            let problem = first.kubelet.problem.as_deref().unwrap_or("not registered");
            non_ok(format!("{}: {problem}", first.name))
        }
    }
}

fn nvml(status: &Status) -> Outcome {
    let nvml = &status.nvml;
    let version = nvml.driver_version.as_deref().unwrap_or("of unknown version");
    match nvml.state {
        NvmlState::Down => {
            let fault = nvml.fault.as_ref().map_or("it is down", |fault| fault.message.as_str());
            non_ok(format!("NVML: {fault}"))
        }
        _ if nvml.unanswered_calls > 0 => {
            let calls = usize::try_from(nvml.unanswered_calls).unwrap_or(usize::MAX);
            let verb = if calls == 1 { "does" } else { "do" };
            non_ok(format!("NVML hangs: {} {verb} not return", counted(calls, "call")))
        }
        NvmlState::Released => ok("NVML was released for the reset of a GPU".to_owned()),
        NvmlState::Up => ok(format!("NVML answers, driver {version}")),
    }
}

fn from_outside(rule: Rule, outside: &Outside) -> Outcome {
    let Outside { unheard, module, served, known } = outside;
    match rule {
        Rule::Registration => match (served, known) {
            (0, _) => non_ok("no GPU plugin is served in the kubelet's directory".to_owned()),
            (_, Some(0) | None) => unknown(format!("a plugin is served; {unheard}")),
            (_, Some(known)) => {
                ok(format!("a plugin is served, the kubelet has {}", counted(*known, "device")))
            }
        },
        Rule::Nvml if !module => non_ok("NVIDIA's kernel module is not loaded".to_owned()),
        _ => unknown(unheard.clone()),
    }
}

fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// One line of at most so many bytes, whole characters, with dots where something was cut off.
#[must_use]
pub fn cut(line: &str, longest: usize) -> String {
    const DOTS: &str = "...";
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() <= longest {
        return line;
    }
    let room = longest.saturating_sub(DOTS.len());
    let end = (0..=room).rev().find(|end| line.is_char_boundary(*end)).unwrap_or_default();
    format!("{}{}", &line[..end], &DOTS[..DOTS.len().min(longest)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::event_log::EventLog;
    use crate::observe::tests::{status_of, xid};
    use device::testing::node;
    use status::{Reason, Timestamp};

    fn status(xids: &[(u32, u32)]) -> Status {
        let (mut inventory, journal) = (node(8), EventLog::default());
        for (index, number) in xids {
            xid(&mut inventory, &journal, *index, *number, 40);
        }
        status_of(&inventory, &journal)
    }

    #[track_caller]
    fn says(rule: Rule, status: Status, state: State, line: &str) {
        assert_eq!(judge(rule, &Ok(status)), Outcome { state, line: line.to_owned() });
    }

    #[test]
    fn gpus_that_are_not_healthy_are_named_with_their_reason() {
        says(Rule::Gpus, status(&[]), State::Ok, "8 GPUs Healthy");
        says(Rule::Gpus, status(&[(3, 79)]), State::NonOk, "1/8 GPUs Unhealthy: 3 Xid 79");
        says(
            Rule::Gpus,
            status(&[(3, 79), (5, 95)]),
            State::NonOk,
            "2/8 GPUs Unhealthy: 3 Xid 79, 5 Xid 95",
        );
        let mut reserved = status(&[(3, 79)]);
        reserved.gpus[3].reserved = Some("excluded".to_owned());
        says(Rule::Gpus, reserved, State::Ok, "7 GPUs Healthy");
        let mut lost = status(&[(3, 79)]);
        lost.gpus[3].reasons[0].xid = None;
        lost.gpus[3].reasons[0].kind = "not_enumerated".to_owned();
        says(Rule::Gpus, lost, State::NonOk, "1/8 GPUs Unhealthy: 3 not enumerated");
        let mut none = status(&[]);
        none.gpus.clear();
        assert_eq!(judge(Rule::Gpus, &Ok(none.clone())).state, State::NonOk);
        none.nvml.state = NvmlState::Down;
        assert_eq!(judge(Rule::Gpus, &Ok(none)).state, State::Unknown);
    }

    #[test]
    fn a_resource_that_is_not_registered_is_named() {
        says(Rule::Registration, status(&[]), State::Ok, "registered: nvidia.com/gpu");
        let mut lost = status(&[]);
        lost.resources[0].kubelet.registered = false;
        lost.resources[0].kubelet.problem = Some("the kubelet is not there".to_owned());
        says(
            Rule::Registration,
            lost.clone(),
            State::NonOk,
            "nvidia.com/gpu: the kubelet is not there",
        );
        lost.resources.clear();
        assert_eq!(judge(Rule::Registration, &Ok(lost)).state, State::NonOk);
    }

    #[test]
    fn nvml_that_is_down_or_hangs_is_told() {
        says(Rule::Nvml, status(&[]), State::Ok, "NVML answers, driver 570.86.15");
        let mut hangs = status(&[]);
        hangs.nvml.unanswered_calls = 1;
        says(Rule::Nvml, hangs, State::NonOk, "NVML hangs: 1 call does not return");
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
        says(Rule::Nvml, down, State::NonOk, "NVML: the NVIDIA driver is not loaded");
        let mut release = status(&[]);
        release.nvml.state = NvmlState::Released;
        assert_eq!(judge(Rule::Nvml, &Ok(release)).state, State::Ok);
    }

    #[test]
    fn all_of_them_is_the_worst_of_them() {
        let all = "NVML answers, driver 570.86.15; 8 GPUs Healthy; registered: nvidia.com/gpu";
        says(Rule::All, status(&[]), State::Ok, all);
        says(Rule::All, status(&[(3, 79)]), State::NonOk, "1/8 GPUs Unhealthy: 3 Xid 79");
    }

    #[test]
    fn without_the_daemon_only_what_is_seen_is_said() {
        let outside =
            Outside { unheard: "no answer".to_owned(), module: true, served: 1, known: Some(8) };
        let says = |rule, outside: &Outside| judge(rule, &Err(outside.clone())).state;
        assert_eq!(says(Rule::Registration, &outside), State::Ok);
        assert_eq!(says(Rule::Gpus, &outside), State::Unknown);
        assert_eq!(says(Rule::Nvml, &outside), State::Unknown);
        assert_eq!(says(Rule::All, &outside), State::Unknown);
        let gone = Outside { served: 0, module: false, ..outside.clone() };
        assert_eq!(says(Rule::Registration, &gone), State::NonOk);
        assert_eq!(says(Rule::Nvml, &gone), State::NonOk);
        assert_eq!(says(Rule::Registration, &Outside { known: None, ..outside }), State::Unknown);
    }

    #[test]
    fn a_line_has_whole_characters_and_no_more_bytes_than_allowed() {
        assert_eq!(cut("8 GPUs Healthy", 80), "8 GPUs Healthy");
        assert_eq!(cut("a\nb", 80), "a b");
        assert_eq!(cut(&"x".repeat(81), 80), format!("{}...", "x".repeat(77)));
        assert_eq!(cut("ééééé", 8), "éé...");
        for longest in 0..12 {
            assert!(cut("ééééééé", longest).len() <= longest);
        }
    }
}
