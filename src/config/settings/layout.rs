//! Which GPUs are offered under which names, and which ones are preferred.

use super::setting::{Effect, Setting, Shape, settings};
use crate::config::filter::{device_filter, print_filter};
use crate::config::print;
use crate::config::value::{self, Parsed, RawValue};

const LAYOUT: Setting =
    Setting { heading: "Which GPUs, under which names", effect: Effect::Layout, ..Setting::BASE };

settings! {
    MIG_STRATEGY: layout.mig_strategy = value::choice, print::choice; LAYOUT {
        flag: Some("mig-strategy"), env: &["MIG_STRATEGY"], key: Some("flags.migStrategy"),
        value: "STRATEGY", default: "none",
        help: "Which names MIG devices have: none (GPUs are offered whole), single \
            (nvidia.com/gpu), mixed (such as nvidia.com/mig-1g.10gb).",
    }
    DEVICES: layout.devices = device_filter, print_filter; LAYOUT {
        flag: Some("devices"), env: &["DEVICES"], key: Some("devices"), shape: Shape::List,
        value: "TERMS",
        help: "The GPUs to offer, all others being reserved for the system: a list of indices and \
            ranges (0-3), UUIDs, PCI bus ids and model=PATTERN; a term that begins with ! takes \
            GPUs away. Without a term that includes, all are offered.",
    }
    EXPECTED_GPUS: layout.expected_gpus = expected_gpus, print_expected; LAYOUT {
        flag: Some("expected-gpus"), env: &["EXPECTED_GPUS"], value: "NUMBER",
        help: "How many GPUs the node should have: another number is a finding, a metric and a \
            check that is not OK; empty: whatever the PCI bus has.",
    }
    DISCOVERY_STRATEGY: process.discovery = value::choice, print::choice; LAYOUT {
        flag: Some("device-discovery-strategy"), env: &["DEVICE_DISCOVERY_STRATEGY"],
        key: Some("flags.deviceDiscoveryStrategy"), value: "STRATEGY", default: "auto",
        effect: Effect::Ignored,
        help: "How devices are found: auto, nvml or tegra. No effect: they are always found \
            through NVML.",
    }
    CUSTOM_RESOURCES: custom_resources = value::boolean, print::display; LAYOUT {
        key: Some("flags.plugin.customResources"), shape: Shape::Switch, value: "BOOL",
        default: "false",
        help: "Whether the file's keys resources, rename and devices take effect, instead of being \
            ignored with a warning.",
    }
    ALLOCATION_POLICY: allocation.whole = value::choice, print::choice; LAYOUT {
        flag: Some("allocation-policy"), env: &["ALLOCATION_POLICY"],
        key: Some("flags.plugin.allocationPolicy"), value: "POLICY", default: "optimal",
        effect: Effect::Allocation,
        help: "Which whole GPUs are preferred for one container: optimal (best links), numa \
            (fewest NUMA nodes) or index.",
    }
    SHARED_POLICY: allocation.shared = value::choice, print::choice; LAYOUT {
        flag: Some("shared-devices-allocation-policy"), env: &["SHARED_DEVICES_ALLOCATION_POLICY"],
        key: Some("flags.plugin.sharedDevicesAllocationPolicy"), value: "POLICY",
        default: "distributed", effect: Effect::Allocation,
        help: "Which replicas and MIG devices are preferred: distributed (least used GPU), packed \
            (most used) or spread (never two of one GPU while another can serve).",
    }
}

fn expected_gpus(raw: RawValue<'_>) -> Parsed<Option<u32>> {
    if value::text(raw)?.is_empty() {
        return Ok(None);
    }
    value::number(raw, 1..=1024, "is not a number of GPUs (1 to 1024)").map(Some)
}

fn print_expected(expected: &Option<u32>) -> String {
    expected.map_or_else(|| print::quoted(""), |number| number.to_string())
}
