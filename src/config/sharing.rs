//! The file's key `sharing`: which resources are offered several times over, how often and under
//! which name.

use device::layout::list_size;
use device::layout::sharing::{Replication, Selection, SharedResource, Sharing};
use device::memory_share::MemoryLimits;

use super::fields::{self, Field, Fields};
use super::filter::device_ref;
use super::names::{parse_name, shared_name};
use super::report::{Context, Origins};
use super::tree::{Node, Scalar, Value};
use super::value::{self, Parsed, RawValue};

/// Reads `sharing`; with both keys MPS is used, as by NVIDIA's plugin. Without `custom` the keys
/// `rename` and `devices` are checked and then ignored.
pub(super) fn read(field: &Field<'_>, custom: bool, context: &mut Context) -> Sharing {
    let Some(mut fields) = Fields::open(&field.path, field.node, context) else {
        return Sharing::None;
    };
    let time_slicing = fields.take("timeSlicing", context);
    let mps = fields.take("mps", context);
    fields.finish(context);
    if let (Some(slicing), Some(_)) = (&time_slicing, &mps) {
        let problem = "sharing.mps is there too and counts alone; this is ignored";
        context.warning(slicing.origin(), slicing.path.as_str(), "", problem);
    }
    let time_slicing = time_slicing
        .and_then(|field| Reader { custom, fails_by_default: false }.replication(&field, context));
    let mps = mps.and_then(|field| {
        context.origins.insert(field.path.clone(), field.origin());
        Reader { custom, fails_by_default: true }.replication(&field, context)
    });
    match (mps, time_slicing) {
        // The root is a setting of its own.
        (Some(replication), _) => Sharing::Mps { replication, root: Default::default() },
        (None, Some(replication)) => Sharing::TimeSlicing(replication),
        (None, None) => Sharing::None,
    }
}

#[derive(Clone, Copy)]
struct Reader {
    custom: bool,
    fails_by_default: bool,
}

impl Reader {
    fn replication(self, field: &Field<'_>, context: &mut Context) -> Option<Replication> {
        let mut fields = Fields::open(&field.path, field.node, context)?;
        let mut switch = |name, default| {
            let value = fields.take(name, context);
            value.and_then(|value| value.parse(boolean, context)).unwrap_or(default)
        };
        let rename_by_default = switch("renameByDefault", false);
        let fail_requests_greater_than_one =
            switch("failRequestsGreaterThanOne", self.fails_by_default);
        let limits = fields.take("memoryLimits", context);
        let list = fields.take("resources", context);
        fields.finish(context);
        let entries = list.as_ref().map(|list| fields::items(list, context)).unwrap_or_default();
        if list.as_ref().is_none_or(|list| list.node.is_empty_list()) {
            let origin = list.as_ref().unwrap_or(field).origin();
            let problem = "names no resource; expected at least one with name and replicas";
            context.mistake(origin, format!("{}.resources", field.path), "", problem);
        }
        let mut resources: Vec<SharedResource> = Vec::new();
        for entry in &entries {
            let before = resources.len();
            let others = std::mem::take(&mut context.origins);
            if let Some(resource) = self.resource(entry, rename_by_default, context) {
                self.add(resource, &mut resources, entry, context);
            }
            let own = std::mem::replace(&mut context.origins, others);
            // An entry that was merged into one before it has no place of its own.
            if resources.len() > before {
                let path = format!("{}.resources[{before}]", field.path);
                context.origins.extend(moved(own, &entry.path, &path));
            }
        }
        let memory_limits = limits.and_then(|field| memory_limits(&field, context));
        Some(Replication {
            rename_by_default,
            fail_requests_greater_than_one,
            memory_limits,
            resources,
        })
    }

    fn resource(
        self,
        entry: &Field<'_>,
        rename_by_default: bool,
        context: &mut Context,
    ) -> Option<SharedResource> {
        context.origins.insert(entry.path.clone(), entry.origin());
        let mut fields = Fields::open(&entry.path, entry.node, context)?;
        let expected = "the resource to share, e.g. nvidia.com/gpu";
        let name = fields.require("name", expected, entry, parse_name, context);
        let expected = "how many replicas each device has, 2 or more";
        let replicas = fields.require("replicas", expected, entry, replicas, context);
        let rename = fields.take("rename", context);
        let devices = fields.take("devices", context);
        fields.finish(context);
        let rename = rename.and_then(|field| Some((field.parse(parse_name, context)?, field)));
        let devices = devices.and_then(|field| Some((field.parse(selection, context)?, field)));
        let name = name?;
        let default = match rename_by_default {
            true => shared_name(&name),
            false => Ok(name.clone()),
        };
        let default = match default {
            Ok(default) => default,
            Err(problem) => {
                let problem = format!("{problem} (renameByDefault is on)");
                let path = format!("{}.name", entry.path);
                context.mistake(entry.origin(), path, name.to_string(), problem);
                return None;
            }
        };
        let offered_as = match rename {
            Some((rename, _)) if self.custom => rename,
            Some((rename, field)) if rename != default => {
                ignored(&field, &format!("the replicas are offered as {default}"), context);
                default
            }
            _ => default,
        };
        let devices = match devices {
            Some((selection, _)) if self.custom => selection,
            Some((Selection::All, _)) | None => Selection::All,
            Some((_, field)) => {
                ignored(&field, "all devices of the resource are shared", context);
                Selection::All
            }
        };
        Some(SharedResource { name, offered_as, replicas: replicas?, devices })
    }

    /// Adds a resource to those before it. Entries for the same one have to name devices that do
    /// not overlap; NVIDIA's plugin offers the larger number of replicas.
    fn add(
        self,
        resource: SharedResource,
        to: &mut Vec<SharedResource>,
        entry: &Field<'_>,
        context: &mut Context,
    ) {
        let Some(earlier) = to.iter_mut().find(|earlier| overlap(earlier, &resource)) else {
            return to.push(resource);
        };
        let path = format!("{}.name", entry.path);
        if self.custom {
            let problem = "is shared by an entry before it; entries for one resource need lists of \
                devices that do not overlap";
            context.mistake(entry.origin(), path, resource.name.to_string(), problem);
        } else {
            earlier.replicas = earlier.replicas.max(resource.replicas);
            let problem =
                format!("is shared by an entry before it; {} replicas count", earlier.replicas);
            context.warning(entry.origin(), path, resource.name.to_string(), problem);
        }
    }
}

fn ignored(field: &Field<'_>, instead: &str, context: &mut Context) {
    let problem = format!(
        "is ignored, as NVIDIA's plugin ignores it, without flags.plugin.customResources: true: \
         {instead}"
    );
    context.warning(field.origin(), field.path.as_str(), field.node.shown(), problem);
}

/// The origins of what is below `from`, below `to`.
fn moved(origins: Origins, from: &str, to: &str) -> Origins {
    origins.into_iter().map(|(key, origin)| (key.replacen(from, to, 1), origin)).collect()
}

fn overlap(a: &SharedResource, b: &SharedResource) -> bool {
    a.name == b.name
        && match (&a.devices, &b.devices) {
            (Selection::List(a), Selection::List(b)) => !a.is_disjoint(b),
            _ => true,
        }
}

/// How the memory is divided; `None`: it is not.
fn memory_limits(field: &Field<'_>, context: &mut Context) -> Option<MemoryLimits> {
    let mut fields = Fields::open(&field.path, field.node, context)?;
    let enforce = fields.take("enforce", context);
    let oversubscribe = fields.take("oversubscribe", context);
    let reserve = fields.take("reserve", context);
    fields.finish(context);
    let is_on = enforce.and_then(|field| field.parse(is_enforced, context)).unwrap_or(false);
    let default = MemoryLimits::default();
    let oversubscribe = oversubscribe.and_then(|field| field.parse(oversubscription, context));
    let reserve = reserve.and_then(|field| field.parse(percentage, context));
    is_on.then_some(MemoryLimits {
        oversubscribe_percent: oversubscribe.unwrap_or(default.oversubscribe_percent),
        reserve_percent: reserve.unwrap_or(default.reserve_percent),
    })
}

fn is_enforced(node: &Node) -> Parsed<bool> {
    match value::node_text(node)? {
        "auto" => Ok(true),
        // A bare off is YAML's word for false.
        "off" | "false" => Ok(false),
        other => value::invalid_text(other, "is not off or auto"),
    }
}

/// A factor of 1 to 100 with at most two decimals, as hundredths.
fn oversubscription(node: &Node) -> Parsed<u32> {
    let text = value::node_text(node)?;
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let hundredths = || {
        let well_formed =
            is_number(whole) && is_number(decimals) && (1..=2).contains(&decimals.len());
        let of_decimals = decimals.parse::<u32>().ok()? * if decimals.len() == 1 { 10 } else { 1 };
        let all = whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(of_decimals)?;
        Some(all).filter(|all| well_formed && (100..=10_000).contains(all))
    };
    hundredths().map_or_else(
        || value::invalid_text(text, "is not a factor of 1.0 to 100.0, with two decimals at most"),
        Ok,
    )
}

fn percentage(node: &Node) -> Parsed<u32> {
    let text = value::node_text(node)?;
    let number = text.strip_suffix('%').and_then(value::text_number).filter(|n| *n <= 90);
    number.map_or_else(|| value::invalid_text(text, "is not a percentage of 0% to 90%"), Ok)
}

fn boolean(node: &Node) -> Parsed<bool> {
    value::boolean(RawValue::Node(node))
}

/// Even on one device the list must not exceed what the kubelet receives.
fn replicas(node: &Node) -> Parsed<u32> {
    const PROBLEM: &str = "is not a whole number of at least 2 (number of replicas)";
    let raw = RawValue::Node(node);
    let problem = match value::number(raw, 0..=1, PROBLEM) {
        Ok(_) => format!("{PROBLEM}; to share nothing, leave the entry out"),
        Err(_) => PROBLEM.to_owned(),
    };
    let replicas = value::number(raw, 2..=u32::MAX, &problem)?;
    let uuid_length = list_size::UUID_LENGTH;
    match list_size::check([list_size::ReplicatedDevices { uuid_length, replicas, devices: 1 }]) {
        Ok(()) => Ok(replicas),
        Err(too_large) => value::invalid(replicas.to_string(), too_large.to_string()),
    }
}

fn selection(node: &Node) -> Parsed<Selection> {
    const PROBLEM: &str =
        "is not all, a number of devices, or a list of indices (0, 0:1) and UUIDs";
    let raw = RawValue::Node(node);
    match &node.value {
        Value::Scalar(Scalar { text, .. }) if text == "all" => Ok(Selection::All),
        Value::Scalar(_) => value::number(raw, 1..=u32::MAX, PROBLEM).map(Selection::Count),
        Value::List(items) if !items.is_empty() => {
            let refs = value::list(raw)?.into_iter().map(|item| item.parse(device_ref));
            Ok(Selection::List(value::collect(refs)?.into_iter().collect()))
        }
        _ => value::invalid(node.shown(), PROBLEM),
    }
}
