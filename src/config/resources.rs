//! The file's key `resources`: names for GPU models and MIG profiles.

use device::layout::filter::Pattern;
use device::layout::{Layout, NamePattern};

use super::fields::{self, Field, Fields};
use super::names::parse_name;
use super::report::Context;
use super::value;

/// Reads `resources` into `layout`. Without `custom` it is checked and then ignored.
pub(super) fn read(field: &Field<'_>, custom: bool, layout: &mut Layout, context: &mut Context) {
    let Some(mut fields) = Fields::open(&field.path, field.node, context) else { return };
    let mut list =
        |name| fields.take(name, context).map(|list| patterns(&list, context)).unwrap_or_default();
    let (gpu_names, mig_names) = (list("gpus"), list("mig"));
    fields.finish(context);
    if custom {
        (layout.gpu_names, layout.mig_names) = (gpu_names, mig_names);
        return;
    }
    let problem = "is ignored, as NVIDIA's plugin ignores it, without \
                   flags.plugin.customResources: true";
    context.warning(field.origin(), field.path.as_str(), "", problem);
    context.origins.retain(|key, _| !key.starts_with("resources."));
}

fn patterns(list: &Field<'_>, context: &mut Context) -> Vec<NamePattern> {
    let mut names: Vec<NamePattern> = Vec::new();
    for entry in fields::items(list, context) {
        let Some(mut fields) = Fields::open(&entry.path, entry.node, context) else { continue };
        let expected = "a GPU model or MIG profile, * for anything";
        let pattern = fields.require("pattern", expected, &entry, context);
        let name = fields.require("name", "the resource name", &entry, context);
        fields.finish(context);
        let pattern = pattern.and_then(|field| field.parse(value::node_text, context));
        let name = name.and_then(|field| field.parse(parse_name, context));
        let (Some(pattern), Some(name)) = (pattern, name) else { continue };
        let earlier = |earlier: &NamePattern| ["*", pattern].contains(&earlier.pattern.as_str());
        if names.iter().any(earlier) {
            let problem = "is never reached: a pattern before it matches the same devices";
            let path = format!("{}.pattern", entry.path);
            context.warning(entry.origin(), path, format!("{pattern:?}"), problem);
        }
        names.push(NamePattern { pattern: Pattern::new(pattern), name });
    }
    names
}
