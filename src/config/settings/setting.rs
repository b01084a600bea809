//! What a setting is: how it is written, and which field of [`Config`] it sets.

use crate::config::model::Config;
use crate::config::value::{Parsed, RawValue};

/// How a flag takes its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `--flag`, `--flag=true`, `--flag=false`.
    Switch,
    /// `--flag VALUE`.
    Value,
    /// `--flag A,B`, also several times.
    List,
}

/// What a change in the config file affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing until the next start of the process.
    NextStart,
    /// The resources and their devices, at once.
    Layout,
    /// What the next container gets.
    Injection,
    /// Which devices are preferred for the next container.
    Allocation,
    /// The health policy, at once.
    Health,
    /// Nothing: it is accepted for compatibility.
    Ignored,
}

/// A row of the table. `None` or empty: it cannot be set in this way.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The flag, without its dashes.
    pub flag: Option<&'static str>,
    /// Other spellings of the flag.
    pub aliases: &'static [&'static str],
    /// Environment variables; the first one that is set takes precedence.
    pub env: &'static [&'static str],
    /// The path of its key in the config file.
    pub key: Option<&'static str>,
    /// How its flag takes a value.
    pub shape: Shape,
    /// The default, as a flag would have it.
    pub default: &'static str,
    /// The name of the value in `--help`.
    pub value: &'static str,
    /// Its description in `--help` and in the documentation.
    pub help: &'static str,
    /// Its group in `--help` and in the documentation.
    pub heading: &'static str,
    /// What a change in the config file affects.
    pub effect: Effect,
    /// Parses a value into the field of [`Config`], which keeps its value on an error.
    pub(in crate::config) set: fn(&mut Config, RawValue<'_>) -> Parsed<()>,
    /// The field as YAML on one line; empty: `config show` leaves the setting out.
    pub(in crate::config) print: fn(&Config) -> String,
    /// Whether two configurations have the same value.
    pub(in crate::config) same: fn(&Config, &Config) -> bool,
}

/// The heading of the settings that only the config file has, and that `--help` leaves out.
pub(super) const HEALTH_POLICY: &str = "Health policy, in the config file only";

impl Setting {
    /// What the rows of a group have in common is stated in a copy of it.
    pub(super) const BASE: Self = Self {
        flag: None,
        aliases: &[],
        env: &[],
        key: None,
        shape: Shape::Value,
        default: "",
        value: "",
        help: "",
        heading: "",
        effect: Effect::NextStart,
        set: |_, _| Ok(()),
        print: |_| String::new(),
        same: |_, _| true,
    };

    /// Its name in messages, in `config show` and in [`Config::origin`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.key.or(self.flag).or(self.env.first().copied()).unwrap_or_default()
    }

    /// Whether `--help` lists it.
    #[must_use]
    pub fn is_in_help(&self) -> bool {
        self.heading != HEALTH_POLICY
    }
}

/// Declares rows, each as `NAME: field of Config = parser, printer; BASE { the rest of Setting }`
/// with what the rows of its group have in common in `BASE`, and `ROWS`, the list of them.
macro_rules! settings {
    ($(
        $name:ident: $($field:ident).+ = $parse:expr, $print:expr; $base:ident { $($part:tt)+ }
    )+) => {
        $(
            pub(in crate::config) const $name: Setting = Setting {
                set: |config, raw| {
                    config.$($field).+ = $parse(raw)?;
                    Ok(())
                },
                print: |config| $print(&config.$($field).+),
                same: |a, b| a.$($field).+ == b.$($field).+,
                $($part)+
                ..$base
            };
        )+

        /// In the order of `--help`.
        pub(super) const ROWS: &[Setting] = &[$($name),+];
    };
}
pub(super) use settings;
