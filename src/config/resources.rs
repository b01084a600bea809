//! The file's key `resources`: names of one's own for GPU models and MIG profiles.

use device::layout::NamePattern;
use device::layout::filter::Pattern;

use super::fields::{self, Field, Fields};
use super::raw;
use super::report::{Origins, Report};
use super::sharing::{name_of, told};

/// What `resources` says: names by GPU model, and by MIG profile.
#[derive(Debug, Default)]
pub(super) struct Stated {
    pub(super) gpus: Vec<NamePattern>,
    pub(super) mig: Vec<NamePattern>,
}

/// Reads `resources`. Without `custom` it is checked and then ignored.
pub(super) fn resources(
    field: &Field<'_>,
    custom: bool,
    report: &mut Report,
    origins: &mut Origins,
) -> Stated {
    let mut stated = Stated::default();
    let Some(mut fields) = Fields::open(&field.path, field.node, report) else { return stated };
    for (name, names) in [("gpus", &mut stated.gpus), ("mig", &mut stated.mig)] {
        if let Some(list) = fields.take(name, report) {
            *names = patterns(&list, report, origins);
        }
    }
    fields.finish(report);
    if custom {
        return stated;
    }
    let problem = "is ignored, as NVIDIA's plugin ignores it; flags.plugin.customResources: true \
        makes it count";
    report.warning(field.origin(), field.path.as_str(), "", problem);
    origins.retain(|key, _| !key.starts_with("resources."));
    Stated::default()
}

fn patterns(list: &Field<'_>, report: &mut Report, origins: &mut Origins) -> Vec<NamePattern> {
    let mut names: Vec<NamePattern> = Vec::new();
    for entry in fields::items(list, report) {
        let Some(mut fields) = Fields::open(&entry.path, entry.node, report) else { continue };
        let (pattern, name) = (fields.take("pattern", report), fields.take("name", report));
        fields.finish(report);
        for (key, field, asked) in [
            ("pattern", &pattern, "a GPU model or MIG profile, * for anything"),
            ("name", &name, "the resource name"),
        ] {
            if field.is_none() {
                report.mistake(
                    entry.origin(),
                    format!("{}.{key}", entry.path),
                    "",
                    format!("is missing: {asked}"),
                );
            }
        }
        let pattern =
            pattern.and_then(|field| told(raw::node_text(field.node), &field, report, origins));
        let name = name.and_then(|field| told(name_of(field.node), &field, report, origins));
        let (Some(pattern), Some(name)) = (pattern, name) else { continue };
        if names
            .iter()
            .any(|earlier| earlier.pattern.as_str() == "*" || earlier.pattern.as_str() == pattern)
        {
            let problem = "is never reached: a pattern before it takes all that it fits";
            report.warning(
                entry.origin(),
                format!("{}.pattern", entry.path),
                format!("{pattern:?}"),
                problem,
            );
        }
        names.push(NamePattern { pattern: Pattern::new(pattern), name });
    }
    names
}
