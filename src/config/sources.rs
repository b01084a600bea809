//! The command line and the environment as they were written, and which source of a setting takes
//! precedence: flag before environment before file before default.

use std::collections::BTreeMap;

use super::fields::Field;
use super::model::Config;
use super::report::{Context, Origin};
use super::settings::{self, Setting};
use super::value::{RawValue, ValueError};

/// The values of the command line and the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    flags: BTreeMap<&'static str, Vec<String>>,
    environment: BTreeMap<&'static str, String>,
}

impl Sources {
    /// Takes the variables that set something out of `environment`.
    pub fn set_environment(&mut self, environment: impl Fn(&str) -> Option<String>) {
        let names = settings::all().flat_map(|setting| setting.env);
        self.environment = names.filter_map(|&name| Some((name, environment(name)?))).collect();
    }

    /// Adds the values of a flag, as often as it was given.
    pub fn set_flag(&mut self, flag: &'static str, values: Vec<String>) {
        self.flags.insert(flag, values);
    }

    /// Sets the path of the config file as its flag would.
    pub fn set_config_file(&mut self, path: String) {
        if let Some(flag) = settings::CONFIG_FILE.flag {
            self.set_flag(flag, vec![path]);
        }
    }

    /// Takes the flags of `other` that are not given here.
    pub fn add_missing_flags(&mut self, other: Self) {
        for (flag, values) in other.flags {
            self.flags.entry(flag).or_insert(values);
        }
    }

    /// The values of `setting`, the one that takes precedence first.
    fn of<'s>(
        &'s self,
        setting: &Setting,
    ) -> impl Iterator<Item = (Origin, &'s [String])> + use<'s> {
        let flag = setting
            .flag
            .and_then(|flag| Some((Origin::Flag(flag), self.flags.get(flag)?.as_slice())));
        let variable = |&name: &&'static str| {
            Some((Origin::Environment(name), std::slice::from_ref(self.environment.get(name)?)))
        };
        flag.into_iter().chain(setting.env.iter().filter_map(variable))
    }

    /// The path of the config file, if any, and what names it.
    #[must_use]
    pub fn config_file(&self) -> Option<(&str, Origin)> {
        let (origin, values) = self.of(&settings::CONFIG_FILE).next()?;
        values.last().filter(|path| !path.is_empty()).map(|path| (path.as_str(), origin))
    }

    /// The text of `setting` by the source that takes precedence, or its default.
    pub(super) fn text_of(&self, setting: &Setting) -> String {
        let text = self.of(setting).next().and_then(|(_, values)| values.last().cloned());
        text.unwrap_or_else(|| setting.default.to_owned())
    }

    /// Sets `setting` in `config` by the source that takes precedence, or to its default where
    /// that value has an error. An error in a value that is overridden is a warning.
    pub(super) fn apply(
        &self,
        setting: &Setting,
        file: Option<&Field<'_>>,
        config: &mut Config,
        context: &mut Context,
    ) {
        let texts = self.of(setting).map(|(origin, texts)| (origin, RawValue::Texts(texts)));
        let node = file.map(|field| (field.origin(), RawValue::Node(field.node)));
        let values: Vec<_> = texts.chain(node).collect();
        let in_force = values.first().map_or(Origin::Default, |(origin, _)| origin.clone());
        let default = [setting.default.to_owned()];
        // The value in force is set last.
        let default = (Origin::Default, RawValue::Texts(&default));
        for (origin, raw) in values.into_iter().chain([default.clone()]).rev() {
            let Err(errors) = (setting.set)(config, raw) else { continue };
            let _ = (setting.set)(config, default.1);
            for ValueError { at, line, value, problem } in errors {
                let key = format!("{}{at}", setting.name());
                let place = match (&origin, line) {
                    (Origin::File { .. }, Some(line)) => Origin::File { line },
                    (origin, _) => origin.clone(),
                };
                if origin == in_force {
                    context.mistake(place, key, value, problem);
                } else {
                    let problem = format!("{problem} (overridden by {in_force})");
                    context.warning(place, key, value, problem);
                }
            }
        }
        context.origins.insert(setting.name().to_owned(), in_force);
    }
}
