//! Mistakes and warnings in flags, environment and config file.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Configuration;
const CHECKED: &str = "flags, environment and config file";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let settings = &facts.settings;
    let mut findings: Vec<Finding> =
        settings.mistakes.iter().map(|mistake| of_mistake(mistake)).collect();
    if findings.is_empty() {
        findings.push(no_mistakes(settings.file.as_deref()));
    }
    findings.extend(settings.warnings.iter().map(|warning| of_warning(warning)));
    findings
}

fn of_mistake(mistake: &str) -> Finding {
    Finding::problem(GROUP, "configuration.mistake", CHECKED, mistake)
        .why("the plugin refuses to start with a mistake in its configuration")
        .fix("correct it; `gpu-device-plugin config check FILE` checks a file and starts nothing")
}

fn no_mistakes(file: Option<&str>) -> Finding {
    let from = match file {
        Some(file) => format!("from flags, environment and {file}"),
        None => "from flags and environment, no config file".to_owned(),
    };
    Finding::ok(GROUP, "configuration.mistake", CHECKED, format!("no mistakes ({from})"))
}

fn of_warning(warning: &str) -> Finding {
    Finding::warning(GROUP, "configuration.warning", CHECKED, warning)
        .why("it does not do what it seems to say")
        .fix("correct it, or remove it")
}
