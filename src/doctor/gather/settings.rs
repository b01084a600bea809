//! What the plugin would run with.

use std::path::PathBuf;

use crate::config::{Choice, Config, ConfigReport, Diagnostic};
use crate::doctor::facts::EffectiveSettings;

pub(super) fn settings(
    config: &Config,
    report: &ConfigReport,
    host_root: PathBuf,
) -> EffectiveSettings {
    let lines = |diagnostics: &[Diagnostic]| {
        diagnostics.iter().map(|diagnostic| report.line(diagnostic)).collect()
    };
    EffectiveSettings {
        file: config.process.config_file.as_ref().map(|file| file.display().to_string()),
        mistakes: lines(&report.mistakes),
        warnings: lines(&report.warnings),
        strategies: config.injector.strategies.clone(),
        ids: config.injector.ids,
        mig_strategy: config.layout.mig_strategy.as_str().to_owned(),
        driver_root: config.process.nvml.driver_root.clone(),
        host_root,
    }
}
