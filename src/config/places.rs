//! Where a key belongs that stands in another place of a config file, or that no file has.

use super::settings;

/// Where a file has the keys that are no settings: the mapping, and the key. `[]` stands for each
/// entry of a list.
const KEYS: &[(&str, &str)] = &[
    ("", "version"),
    ("", "flags"),
    ("", "imex"),
    ("", "sharing"),
    ("", "resources"),
    ("", "health"),
    ("flags", "plugin"),
    ("flags", "gfd"),
    ("flags", "useNodeFeatureAPI"),
    ("flags.gfd", "oneshot"),
    ("flags.gfd", "noTimestamp"),
    ("flags.gfd", "outputFile"),
    ("flags.gfd", "machineTypeFile"),
    ("flags.gfd", "sleepInterval"),
    ("sharing", "timeSlicing"),
    ("sharing", "mps"),
    ("sharing.timeSlicing", "renameByDefault"),
    ("sharing.mps", "renameByDefault"),
    ("sharing.timeSlicing", "failRequestsGreaterThanOne"),
    ("sharing.mps", "failRequestsGreaterThanOne"),
    ("sharing.timeSlicing", "memoryLimits"),
    ("sharing.mps", "memoryLimits"),
    ("sharing.timeSlicing.memoryLimits", "enforce"),
    ("sharing.mps.memoryLimits", "enforce"),
    ("sharing.timeSlicing.memoryLimits", "oversubscribe"),
    ("sharing.mps.memoryLimits", "oversubscribe"),
    ("sharing.timeSlicing.memoryLimits", "reserve"),
    ("sharing.mps.memoryLimits", "reserve"),
    ("sharing.timeSlicing", "resources"),
    ("sharing.mps", "resources"),
    ("sharing.timeSlicing.resources[]", "replicas"),
    ("sharing.mps.resources[]", "replicas"),
    ("sharing.timeSlicing.resources[]", "rename"),
    ("sharing.mps.resources[]", "rename"),
    ("sharing.timeSlicing.resources[]", "devices"),
    ("sharing.mps.resources[]", "devices"),
    ("resources", "gpus"),
    ("resources", "mig"),
    ("resources.gpus[]", "pattern"),
];

/// Where the key `name` belongs, which is unknown in the mapping at `path`; `None`: nowhere.
pub(super) fn hint(path: &str, name: &str) -> Option<String> {
    let name = plain(name);
    let of_settings = settings::all().filter_map(|setting| setting.key);
    let of_settings = of_settings.map(|key| key.rsplit_once('.').unwrap_or(("", key)));
    let mut places: Vec<&str> = KEYS
        .iter()
        .copied()
        .chain(of_settings)
        .filter(|(place, key)| *place != path && plain(key) == name)
        .map(|(place, _)| place)
        .collect();
    if places.is_empty() {
        return by_other_name(&name);
    }
    // What is meant is near: under mps that of mps.
    let is_near = |place: &&str| shared_parts(path, place) > 1;
    if places.iter().any(is_near) {
        places.retain(is_near);
    }
    let places: Vec<String> = places.into_iter().map(words).collect();
    Some(format!("it belongs {}", places.join(" or ")))
}

/// How a setting is set that is named here as flags or variables name it.
fn by_other_name(name: &str) -> Option<String> {
    let setting = settings::all().find(|setting| {
        let names = setting.flag.iter().chain(setting.aliases).chain(setting.env);
        names.copied().any(|word| plain(word) == name)
    })?;
    if let Some(key) = setting.key {
        return Some(format!("in a file it is {key}"));
    }
    let flag = setting.flag.map(|flag| format!("the flag --{flag}"));
    let variable = setting.env.first().map(|name| format!("the environment variable {name}"));
    let ways: Vec<String> = flag.into_iter().chain(variable).collect();
    Some(format!("no file sets it, but {}", ways.join(" or ")))
}

/// A name without what is written differently in flags, variables and keys.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// How many parts two paths have in common at their beginnings.
fn shared_parts(a: &str, b: &str) -> usize {
    let without_number = |part: &str| part.split('[').next().map(str::to_owned);
    let parts = a.split('.').zip(b.split('.'));
    parts.take_while(|(a, b)| without_number(a) == without_number(b)).count()
}

fn words(place: &str) -> String {
    match (place, place.strip_suffix("[]")) {
        ("", _) => "at the top level".to_owned(),
        (_, Some(list)) => format!("in an entry of {list}"),
        (place, None) => format!("under {place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misplaced_key_is_told_where_it_belongs() {
        for (path, name, expected) in [
            (
                "flags",
                "renameByDefault",
                "it belongs under sharing.timeSlicing or under sharing.mps",
            ),
            ("sharing", "failRequestsGreaterThanOne", "under sharing.timeSlicing or"),
            ("sharing.mps.resources[0]", "renameByDefault", "it belongs under sharing.mps"),
            ("", "migStrategy", "it belongs under flags"),
            ("", "mig-strategy", "it belongs under flags"),
            ("", "MIG_STRATEGY", "it belongs under flags"),
            ("flags", "deviceListStrategy", "it belongs under flags.plugin"),
            ("flags.plugin", "migStrategy", "it belongs under flags"),
            ("", "timeSlicing", "it belongs under sharing"),
            ("flags", "sharing", "it belongs at the top level"),
            ("sharing.timeSlicing", "replicas", "it belongs in an entry of sharing.timeSlicing.r"),
            ("health", "sleepInterval", "it belongs under flags.gfd"),
            ("flags", "stateDir", "but the flag --state-dir or the environment variable STATE_DIR"),
            (
                "health",
                "DP_DISABLE_HEALTHCHECKS",
                "no file sets it, but the environment variable DP_DISABLE_",
            ),
            ("flags.plugin", "driver-root-ctr-path", "in a file it is flags.plugin.containerDri"),
        ] {
            let hint = hint(path, name).unwrap_or_default();
            assert!(hint.contains(expected), "{path} {name}: {hint}");
        }
        let hint_of_mps = hint("sharing.mps.resources[0]", "renameByDefault");
        assert_eq!(hint_of_mps.as_deref(), Some("it belongs under sharing.mps"));
        for (path, name) in [("flags", "banana"), ("", "")] {
            assert_eq!(hint(path, name), None, "{name}");
        }
    }
}
