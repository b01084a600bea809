//! Mistakes and warnings in flags, environment and config file.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Check, Finding, Group};

const CHECKED: &str = "flags, environment and config file";
const MISTAKE: Check = Check::new(Group::Configuration, "configuration.mistake", CHECKED);
const WARNING: Check = Check::new(Group::Configuration, "configuration.warning", CHECKED);

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let settings = &facts.settings;
    let mut findings: Vec<Finding> = settings.mistakes.iter().map(|text| mistake(text)).collect();
    if findings.is_empty() {
        findings.push(MISTAKE.ok(match &settings.file {
            Some(file) => format!("no mistakes (from flags, environment and {file})"),
            None => "no mistakes (from flags and environment, no config file)".to_owned(),
        }));
    }
    findings.extend(settings.warnings.iter().map(|text| warning(text)));
    findings
}

fn mistake(text: &str) -> Finding {
    MISTAKE
        .problem(text)
        .why("the plugin refuses to start with a mistake in its configuration")
        .fix("correct it; `gpu-device-plugin config check FILE` checks a file and starts nothing")
}

fn warning(text: &str) -> Finding {
    WARNING.warning(text).why("it does not do what it seems to say").fix("correct it, or remove it")
}
