//! Mistakes and warnings in flags, environment and config file.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Check, Finding, Group};

const CHECKED: &str = "flags, environment and config file";
const MISTAKE: Check = Check::new(Group::Configuration, "configuration.mistake", CHECKED);
const WARNING: Check = Check::new(Group::Configuration, "configuration.warning", CHECKED);

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let settings = &facts.settings;
    let file = settings.file.as_deref();
    let mut findings: Vec<Finding> =
        settings.mistakes.iter().map(|text| mistake(text, file)).collect();
    if findings.is_empty() {
        findings.push(MISTAKE.ok(match &settings.file {
            Some(file) => format!("no mistakes (from flags, environment and {file})"),
            None => "no mistakes (from flags and environment, no config file)".to_owned(),
        }));
    }
    findings.extend(settings.warnings.iter().map(|text| warning(text)));
    findings
}

fn mistake(text: &str, file: Option<&str>) -> Finding {
    let check = match file {
        Some(file) => format!("`gpu-device-plugin config check {file}`"),
        None => "`gpu-device-plugin config show`".to_owned(),
    };
    MISTAKE
        .problem(text)
        .why("the plugin refuses to start with a mistake in its configuration")
        .fix(format!(
            "write what the line says is expected; {check} shows whether it is right then"
        ))
}

fn warning(text: &str) -> Finding {
    WARNING
        .warning(text)
        .why("it does not do what it seems to say")
        .fix("write it as the line says, or take it out")
}
