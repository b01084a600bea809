//! One question about the node, answered in one line, for node problem detector's custom plugin
//! monitor: exit code 0 for OK, 1 for NonOK, 2 for Unknown, and a text that it truncates at 80
//! bytes.

mod by_status;
mod fallback;
mod result;
mod rule;
#[cfg(test)]
mod tests;

use status::Status;

pub use fallback::FallbackFacts;
pub use result::{CheckResult, CheckState};
pub use rule::Rule;

/// Answers by the status of the running plugin, or by what can be seen without it.
#[must_use]
pub fn evaluate(rule: Rule, seen: &Result<Status, FallbackFacts>) -> CheckResult {
    let of = |rule| match seen {
        Ok(status) => by_status::by_status(rule, status),
        Err(facts) => fallback::by_fallback(rule, facts),
    };
    match rule {
        Rule::All => worst([Rule::Nvml, Rule::Gpus, Rule::Registration].map(of)),
        rule => of(rule),
    }
}

/// The worst of the answers; all lines, if all are OK.
fn worst(all: [CheckResult; 3]) -> CheckResult {
    let worst = all.iter().map(|result| result.state).max().unwrap_or(CheckState::Unknown);
    if worst == CheckState::Ok {
        return CheckResult::ok(all.map(|result| result.line).join("; "));
    }
    let mut all = all.into_iter();
    all.find(|result| result.state == worst)
        .unwrap_or_else(|| CheckResult::unknown("nothing was checked".to_owned()))
}

/// One line of at most `longest` bytes, whole characters, with dots where it was truncated.
#[must_use]
pub fn truncate(line: &str, longest: usize) -> String {
    const DOTS: &str = "...";
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() <= longest {
        return line;
    }
    let room = longest.saturating_sub(DOTS.len());
    let end = (0..=room).rev().find(|end| line.is_char_boundary(*end)).unwrap_or_default();
    format!("{}{}", &line[..end], &DOTS[..DOTS.len().min(longest)])
}
