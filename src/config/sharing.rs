//! The file's key `sharing`: which resources are offered several times over, how often and under
//! which name.

use std::collections::BTreeSet;

use device::layout::MigStrategy;
use device::layout::list_size;
use device::layout::sharing::{Replication, Selection, SharedResource};
use device::names::ResourceName;

use super::choice::Choice;
use super::fields::{self, Field, Fields};
use super::filter::device_ref;
use super::model::Layout;
use super::names::{resource_name, shared_name};
use super::raw::{self, Raw, Read};
use super::report::{Origin, Origins, Report};
use super::tree::{Node, Scalar, Value};

/// What `sharing` says; with both keys MPS counts, as it does for NVIDIA's plugin.
#[derive(Debug, Default)]
pub(super) struct Stated {
    pub(super) time_slicing: Option<Replication>,
    pub(super) mps: Option<(Replication, u32)>,
}

/// Reads `sharing`. Without `custom` the keys `rename` and `devices` are checked and then ignored.
pub(super) fn sharing(
    field: &Field<'_>,
    custom: bool,
    report: &mut Report,
    origins: &mut Origins,
) -> Stated {
    let mut stated = Stated::default();
    let Some(mut fields) = Fields::open(&field.path, field.node, report) else { return stated };
    let time_slicing = fields.take("timeSlicing", report);
    let mps = fields.take("mps", report);
    fields.finish(report);
    if let (Some(slicing), Some(_)) = (&time_slicing, &mps) {
        let problem = "sharing.mps is there too and counts alone; this is ignored";
        report.warning(slicing.origin(), slicing.path.as_str(), "", problem);
    }
    stated.time_slicing = time_slicing
        .and_then(|field| Kind { custom, mps: false }.replication(&field, report, origins));
    stated.mps = mps.and_then(|field| {
        let line = field.node.line;
        Kind { custom, mps: true }
            .replication(&field, report, origins)
            .map(|replication| (replication, line))
    });
    stated
}

#[derive(Clone, Copy)]
struct Kind {
    custom: bool,
    mps: bool,
}

impl Kind {
    fn replication(
        self,
        field: &Field<'_>,
        report: &mut Report,
        origins: &mut Origins,
    ) -> Option<Replication> {
        let mut fields = Fields::open(&field.path, field.node, report)?;
        let rename = fields.take("renameByDefault", report);
        let rename_by_default = switch(rename, false, report, origins);
        let fail = fields.take("failRequestsGreaterThanOne", report);
        let fail_requests_greater_than_one = switch(fail, self.mps, report, origins);
        let list = fields.take("resources", report);
        fields.finish(report);
        let entries = list.as_ref().map(|list| fields::items(list, report)).unwrap_or_default();
        if entries.is_empty()
            && !list.as_ref().is_some_and(|list| !matches!(list.node.value, Value::List(_)))
        {
            let (path, origin) =
                (format!("{}.resources", field.path), list.unwrap_or(field.clone()).origin());
            report.mistake(
                origin,
                path,
                "",
                "names no resource; at least one with name and replicas is asked for",
            );
        }
        let mut resources: Vec<SharedResource> = Vec::new();
        for entry in &entries {
            let mut own = Origins::new();
            let before = resources.len();
            if let Some(resource) = self.resource(entry, rename_by_default, report, &mut own) {
                self.join(resource, &mut resources, entry, report);
            }
            // An entry that was joined to one before it has no place of its own.
            if resources.len() > before {
                let place = format!("{}.resources[{before}]", field.path);
                origins.extend(
                    own.into_iter()
                        .map(|(key, origin)| (key.replacen(&entry.path, &place, 1), origin)),
                );
            }
        }
        Some(Replication { rename_by_default, fail_requests_greater_than_one, resources })
    }

    fn resource(
        self,
        entry: &Field<'_>,
        rename_by_default: bool,
        report: &mut Report,
        origins: &mut Origins,
    ) -> Option<SharedResource> {
        origins.insert(entry.path.clone(), entry.origin());
        let mut fields = Fields::open(&entry.path, entry.node, report)?;
        let name = required(
            &mut fields,
            "name",
            "is missing: the resource to share, e.g. nvidia.com/gpu",
            entry,
            report,
        )
        .and_then(|field| told(name_of(field.node), &field, report, origins));
        let replicas = required(
            &mut fields,
            "replicas",
            "is missing: how many replicas each device has, 2 or more",
            entry,
            report,
        )
        .and_then(|field| {
            let read = raw::number(
                field.node,
                2..=u32::MAX,
                "is not a whole number of at least 2 (number of replicas)",
            );
            told(read, &field, report, origins).and_then(|replicas| fits(replicas, &field, report))
        });
        let rename = fields.take("rename", report);
        let devices = fields.take("devices", report);
        fields.finish(report);
        let rename = rename
            .and_then(|field| Some((told(name_of(field.node), &field, report, origins)?, field)));
        let devices = devices
            .and_then(|field| Some((told(selection(field.node), &field, report, origins)?, field)));
        let name = name?;
        let default = if rename_by_default {
            match shared_name(&name) {
                Ok(shared) => shared,
                Err(problem) => {
                    let problem = format!("{problem} (renameByDefault is on)");
                    report.mistake(
                        entry.origin(),
                        format!("{}.name", entry.path),
                        name.to_string(),
                        problem,
                    );
                    return None;
                }
            }
        } else {
            name.clone()
        };
        let offered_as = match rename {
            Some((rename, _)) if self.custom => rename,
            Some((rename, field)) if rename != default => {
                self.ignored(&field, &format!("the replicas are offered as {default}"), report);
                default
            }
            _ => default,
        };
        let devices = match devices {
            Some((selection, _)) if self.custom => selection,
            Some((Selection::All, _)) | None => Selection::All,
            Some((_, field)) => {
                self.ignored(&field, "all devices of the resource are shared", report);
                Selection::All
            }
        };
        Some(SharedResource { name, offered_as, replicas: replicas?, devices })
    }

    fn ignored(self, field: &Field<'_>, instead: &str, report: &mut Report) {
        let problem = format!(
            "is ignored as NVIDIA's plugin ignores it: {instead}; flags.plugin.customResources: \
                true makes it count"
        );
        report.warning(field.origin(), field.path.as_str(), field.node.shown(), problem);
    }

    /// Adds a resource to those before it. Entries for the same one have to name devices that do
    /// not overlap; NVIDIA's plugin offers the larger number of replicas.
    fn join(
        self,
        resource: SharedResource,
        to: &mut Vec<SharedResource>,
        entry: &Field<'_>,
        report: &mut Report,
    ) {
        let Some(earlier) = to.iter_mut().find(|earlier| overlap(earlier, &resource)) else {
            return to.push(resource);
        };
        let path = format!("{}.name", entry.path);
        if self.custom {
            let problem = "is shared by an entry before it; entries for one resource need lists of \
                devices that do not overlap";
            report.mistake(entry.origin(), path, resource.name.to_string(), problem);
        } else {
            earlier.replicas = earlier.replicas.max(resource.replicas);
            let problem =
                format!("is shared by an entry before it; {} replicas count", earlier.replicas);
            report.warning(entry.origin(), path, resource.name.to_string(), problem);
        }
    }
}

/// Tells of shared resources that no device of any node can be in: NVIDIA's plugin passes over them
/// in silence.
pub(super) fn without_devices(
    kind: &str,
    replication: &Replication,
    layout: &Layout,
    report: &mut Report,
    origins: &Origins,
) {
    let custom: Vec<_> =
        layout.gpu_names.iter().chain(&layout.mig_names).map(|named| &named.name).collect();
    for (number, SharedResource { name, .. }) in replication.resources.iter().enumerate() {
        let mig = name.base().starts_with("mig-");
        let problem = match layout.mig_strategy {
            _ if name.base() == "gpu" || custom.contains(&name) => continue,
            MigStrategy::Mixed if mig => continue,
            other if mig => format!(
                "has no devices with the MIG strategy {}: only mixed names MIG profiles",
                other.as_str()
            ),
            _ => "has no devices: there are nvidia.com/gpu and, with the MIG strategy mixed, \
                nvidia.com/mig-<profile>"
                .to_owned(),
        };
        let key = format!("sharing.{kind}.resources[{number}].name");
        let origin = origins.get(&key).unwrap_or(&Origin::Default).clone();
        report.warning(origin, key, name.to_string(), problem);
    }
}

fn overlap(a: &SharedResource, b: &SharedResource) -> bool {
    a.name == b.name
        && match (&a.devices, &b.devices) {
            (Selection::List(a), Selection::List(b)) => !a.is_disjoint(b),
            _ => true,
        }
}

/// Even on one device the list must not pass what the kubelet receives.
fn fits(replicas: u32, field: &Field<'_>, report: &mut Report) -> Option<u32> {
    match list_size::check([list_size::ReplicatedDevices {
        uuid_length: list_size::UUID_LENGTH,
        replicas,
        devices: 1,
    }]) {
        Ok(()) => Some(replicas),
        Err(too_large) => {
            report.mistake(
                field.origin(),
                field.path.as_str(),
                replicas.to_string(),
                too_large.to_string(),
            );
            None
        }
    }
}

fn required<'a>(
    fields: &mut Fields<'a>,
    name: &'static str,
    problem: &str,
    entry: &Field<'_>,
    report: &mut Report,
) -> Option<Field<'a>> {
    let field = fields.take(name, report);
    if field.is_none() {
        report.mistake(entry.origin(), format!("{}.{name}", entry.path), "", problem);
    }
    field
}

/// The value, its origin noted; or its mistakes told.
pub(super) fn told<T>(
    read: Read<T>,
    field: &Field<'_>,
    report: &mut Report,
    origins: &mut Origins,
) -> Option<T> {
    match read {
        Ok(value) => {
            origins.insert(field.path.clone(), field.origin());
            Some(value)
        }
        Err(wrongs) => {
            for wrong in wrongs {
                let line = wrong.line.unwrap_or(field.node.line);
                let path = format!("{}{}", field.path, wrong.at);
                report.mistake(Origin::File { line }, path, wrong.value, wrong.problem);
            }
            None
        }
    }
}

fn switch(
    field: Option<Field<'_>>,
    default: bool,
    report: &mut Report,
    origins: &mut Origins,
) -> bool {
    field
        .and_then(|field| told(raw::boolean(Raw::Node(field.node)), &field, report, origins))
        .unwrap_or(default)
}

/// A resource name.
pub(super) fn name_of(node: &Node) -> Read<ResourceName> {
    let text = raw::node_text(node)?;
    resource_name(text).or_else(|problem| raw::wrong_text(text, problem))
}

fn selection(node: &Node) -> Read<Selection> {
    const ALLOWED: &str =
        "is not all, a number of devices, or a list of indices (0, 0:1) and UUIDs";
    match &node.value {
        Value::Scalar(Scalar { text, .. }) if text == "all" => Ok(Selection::All),
        Value::Scalar(_) => raw::number(node, 1..=u32::MAX, ALLOWED).map(Selection::Count),
        Value::List(items) if !items.is_empty() => {
            let refs = raw::list(Raw::Node(node))?.into_iter().map(|item| {
                item.read(|text| device_ref(text).or_else(|problem| raw::wrong_text(text, problem)))
            });
            raw::all(refs).map(|refs| Selection::List(refs.into_iter().collect::<BTreeSet<_>>()))
        }
        _ => raw::wrong(node.shown(), ALLOWED),
    }
}
