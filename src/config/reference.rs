//! The table of settings in Markdown, for `docs/configuration.md`.

use std::fmt::Write as _;

use super::settings::{self, Effect, Setting, Shape};

/// A table for each group of settings.
#[must_use]
pub fn reference() -> String {
    let mut headings: Vec<_> = settings::all().map(|setting| setting.heading).collect();
    headings.dedup();
    let mut text = String::new();
    for (number, heading) in headings.iter().enumerate() {
        // A group may be in several places of the table.
        if headings[..number].contains(heading) {
            continue;
        }
        let separator = if number == 0 { "" } else { "\n" };
        let _ = write!(
            text,
            "{separator}### {heading}\n\n\
             | Flag | Environment | File key | Default | A change in the file | Description |\n\
             |---|---|---|---|---|---|\n"
        );
        for setting in settings::all().filter(|setting| setting.heading == *heading) {
            text.push_str(&row(setting));
        }
    }
    text
}

fn row(setting: &Setting) -> String {
    let aliases = setting.aliases.iter().map(|alias| format!("--{alias}"));
    let flags: Vec<_> =
        setting.flag.map(|flag| usage(setting, flag)).into_iter().chain(aliases).collect();
    let default =
        if setting.default.is_empty() { "empty".to_owned() } else { code([setting.default]) };
    let change = match (setting.key, setting.effect) {
        (None, _) | (_, Effect::Ignored) => "",
        (_, Effect::NextStart) => "at the next start",
        (_, Effect::Injection | Effect::Allocation) => "for new containers",
        (_, Effect::Layout | Effect::Health) => "at once",
    };
    let columns = [
        code(flags),
        code(setting.env),
        code(setting.key),
        default,
        change.to_owned(),
        escaped(setting.help),
    ];
    format!("| {} |\n", columns.join(" | "))
}

fn usage(setting: &Setting, flag: &str) -> String {
    match setting.shape {
        Shape::Switch => format!("--{flag}={}", setting.value),
        Shape::Value | Shape::List => format!("--{flag} {}", setting.value),
    }
}

fn code<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| format!("`{}`", word.as_ref())).collect();
    words.join(", ")
}

/// Text that Markdown takes as it stands.
fn escaped(text: &str) -> String {
    text.replace('*', "\\*").replace('|', "\\|").replace('<', "\\<")
}
