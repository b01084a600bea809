//! The documentation that is made of the table of settings.

use super::*;

#[test]
fn the_reference_has_every_setting_with_its_names_and_default() {
    let text = reference();
    for setting in settings::all() {
        let flag = setting.flag.map(|flag| format!("`--{flag}"));
        let aliases = setting.aliases.iter().map(|alias| format!("`--{alias}`"));
        let others = setting.env.iter().chain(&setting.key).map(|word| format!("`{word}`"));
        let words: Vec<_> = flag.into_iter().chain(aliases).chain(others).collect();
        let row = text.lines().find(|line| words.iter().all(|word| line.contains(word)));
        let row = row.unwrap_or_else(|| panic!("{} has no row", setting.name()));
        assert_eq!(row.replace("\\|", "").matches('|').count(), 7, "{row}");
        assert!(row.contains(setting.default), "{row}");
    }
    let row = text.lines().find(|line| line.contains("--fail-on-init-error")).unwrap();
    assert!(
        row.starts_with(
            "| `--fail-on-init-error=BOOL` | `FAIL_ON_INIT_ERROR` | `flags.failOnInitError` | \
             `true` | at the next start | End with an error"
        ),
        "{row}"
    );
}

#[test]
fn the_reference_has_each_heading_once() {
    let text = reference();
    let mut headings: Vec<_> = text.lines().filter(|line| line.starts_with('#')).collect();
    let count = headings.len();
    headings.sort_unstable();
    headings.dedup();
    assert_eq!(headings.len(), count);
}
