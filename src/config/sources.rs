//! The command line and the environment as they were written, and one value out of all sources:
//! flag before environment before file before default.

use std::collections::BTreeMap;

use super::file::Layer;
use super::raw::{Raw, Read, Wrong};
use super::report::{Origin, Origins, Report};
use super::settings::{self, Setting};

/// What the command line and the environment say, by setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    flags: BTreeMap<&'static str, Vec<String>>,
    environment: BTreeMap<&'static str, String>,
}

impl Sources {
    /// Takes the variables that mean something here out of `environment`.
    pub fn set_environment(&mut self, environment: impl Fn(&str) -> Option<String>) {
        let names = settings::ALL.iter().flat_map(|setting| setting.env);
        self.environment = names.filter_map(|&name| Some((name, environment(name)?))).collect();
    }

    /// Notes the values of a flag, as often as it was given.
    pub fn set_flag(&mut self, flag: &'static str, values: Vec<String>) {
        self.flags.insert(flag, values);
    }

    /// Takes the flags of `other` that are not given here.
    pub fn fall_back_on(&mut self, other: Self) {
        for (flag, values) in other.flags {
            self.flags.entry(flag).or_insert(values);
        }
    }

    /// The values of `setting` here, the one that counts first.
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

    /// The config file that is asked for, and who asks.
    #[must_use]
    pub fn config_file(&self) -> Option<(&str, Origin)> {
        let (origin, values) = self.of(&settings::CONFIG_FILE).next()?;
        values.last().filter(|path| !path.is_empty()).map(|path| (path.as_str(), origin))
    }
}

/// Reads settings out of all sources and notes where each comes from.
pub(super) struct Reader<'a> {
    pub(super) sources: &'a Sources,
    pub(super) layer: Layer<'a>,
    pub(super) report: Report,
    pub(super) origins: Origins,
}

impl Reader<'_> {
    /// The value in force. A mistake in it is told; one in a value that is overridden is a warning.
    pub(super) fn read<T>(&mut self, setting: &Setting, read: fn(Raw<'_>) -> Read<T>) -> T {
        self.read_from(setting, read).0
    }

    /// The value in force and its origin.
    pub(super) fn read_from<T>(
        &mut self,
        setting: &Setting,
        read: fn(Raw<'_>) -> Read<T>,
    ) -> (T, Origin) {
        let file = setting.key.and_then(|key| self.layer.settings.get(key)).cloned();
        let written = self.sources.of(setting).map(|(origin, texts)| (origin, Raw::Texts(texts)));
        let written =
            written.chain(file.iter().map(|field| (field.origin(), Raw::Node(field.node))));
        let mut in_force: Option<(Origin, Option<T>)> = None;
        for (origin, raw) in written {
            let value = match read(raw) {
                Ok(value) => Some(value),
                Err(wrongs) => {
                    for wrong in wrongs {
                        tell(
                            &mut self.report,
                            setting,
                            &origin,
                            wrong,
                            in_force.as_ref().map(|(by, _)| by),
                        );
                    }
                    None
                }
            };
            in_force.get_or_insert((origin, value));
        }
        let (origin, value) = in_force.unwrap_or((Origin::Default, None));
        self.origins.insert(setting.name().to_owned(), origin.clone());
        (value.unwrap_or_else(|| default(setting, read)), origin)
    }
}

fn tell(
    report: &mut Report,
    setting: &Setting,
    origin: &Origin,
    wrong: Wrong,
    overridden_by: Option<&Origin>,
) {
    let key = format!("{}{}", setting.name(), wrong.at);
    let origin = match (origin, wrong.line) {
        (Origin::File { .. }, Some(line)) => Origin::File { line },
        (origin, _) => origin.clone(),
    };
    match overridden_by {
        None => report.mistake(origin, key, wrong.value, wrong.problem),
        Some(by) => report.warning(
            origin,
            key,
            wrong.value,
            format!("{} (overridden by {by})", wrong.problem),
        ),
    }
}

fn default<T>(setting: &Setting, read: fn(Raw<'_>) -> Read<T>) -> T {
    let text = [setting.default.to_owned()];
    #[expect(clippy::expect_used, reason = "a test reads every default")]
    read(Raw::Texts(&text)).expect("the default of a setting can be read")
}
