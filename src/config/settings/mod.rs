//! The table of settings. Command line, environment, file, `--help`, `config show`, the comparison
//! of two configurations and the documentation are all generated from it.
//!
//! To add a setting, add a row to the file of its group and the field that it sets.

mod health;
mod injection;
mod layout;
mod process;
mod setting;

pub(super) use health::{CRITICAL_XIDS, EVENT_TYPES, STATE_DIR, is_every_xid};
pub(super) use injection::{CDI_FEATURE_FLAGS, CDI_HOOK_PATH, DEVICE_LIST_STRATEGY};
pub(super) use layout::{DISCOVERY_STRATEGY, MIG_STRATEGY};
pub(super) use process::{CONFIG_DIR, CONFIG_FILE, CONFIG_NAME_FILE};
pub use setting::{Effect, Setting, Shape};

/// Every setting, in the order of `--help`.
pub fn all() -> impl Iterator<Item = &'static Setting> + Clone {
    [layout::ROWS, injection::ROWS, health::ROWS, process::ROWS].into_iter().flatten()
}
