//! What the plugin would run with.

use std::path::PathBuf;

use crate::config::{Choice, Config, Remark, Report};
use crate::doctor::facts::EffectiveSettings;

pub(super) fn settings(config: &Config, report: &Report, host_root: PathBuf) -> EffectiveSettings {
    let lines = |remarks: &[Remark]| remarks.iter().map(|remark| report.line(remark)).collect();
    EffectiveSettings {
        file: config.process.config_file.as_ref().map(|file| file.display().to_string()),
        mistakes: lines(&report.mistakes),
        warnings: lines(&report.warnings),
        strategies: config.injection.list_strategies.clone(),
        ids: config.injection.id_strategy,
        mig_strategy: config.layout.mig_strategy.as_str().to_owned(),
        driver_root: config.process.driver_root_ctr_path.clone(),
        host_root,
    }
}
