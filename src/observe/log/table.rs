//! The node's GPUs as a table, for the log of a start.

use device::health::GpuPart;
use device::inventory::{GpuRecord, Inventory};
use device::names::Uuid;

use crate::observe::status::offered;

const HEADINGS: [&str; 8] = ["GPU", "model", "memory", "NUMA", "PCI", "MIG", "health", "resource"];

/// A line of headings, and one for each GPU, in columns.
#[must_use]
pub fn table(inventory: &Inventory) -> String {
    let mut gpus: Vec<(&Uuid, &GpuRecord)> = inventory.gpus().iter().collect();
    gpus.sort_by_key(|(uuid, gpu)| (gpu.index, *uuid));
    let offered = offered(inventory);
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(gpus.into_iter().map(|(uuid, gpu)| row(uuid, gpu, inventory, offered.get(uuid))));
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn row(
    uuid: &Uuid,
    gpu: &GpuRecord,
    inventory: &Inventory,
    resources: Option<&Vec<String>>,
) -> [String; 8] {
    let facts = gpu.facts.as_ref();
    let dash = || "-".to_owned();
    let health = inventory.node_health().health_of(uuid, GpuPart::Whole);
    let resource = match inventory.reserved().get(uuid) {
        Some(_) => "(reserved)".to_owned(),
        None => resources.map_or_else(dash, |all| all.join(", ")),
    };
    [
        gpu.index.to_string(),
        facts.and_then(|gpu| gpu.name.clone()).unwrap_or_else(dash),
        facts
            .and_then(|gpu| gpu.memory_bytes)
            .map_or_else(dash, |bytes| format!("{} GiB", (bytes + (1 << 29)) >> 30)),
        facts.and_then(|gpu| gpu.numa_node).map_or_else(dash, |node| node.number().to_string()),
        facts.and_then(|gpu| gpu.pci_bus_id).map_or_else(dash, |id| id.to_string()),
        facts
            .filter(|gpu| gpu.mig_mode == device::gpu::MigMode::On)
            .map_or_else(dash, |gpu| gpu.mig_devices.len().to_string()),
        if health.is_healthy() { "Healthy" } else { "Unhealthy" }.to_owned(),
        resource,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use device::testing::node;
    use expect_test::expect;

    #[test]
    fn each_gpu_is_a_line_in_columns() {
        let expected = expect![[r#"
GPU  model                  memory  NUMA  PCI  MIG  health   resource
0    NVIDIA H100 80GB HBM3  -       0     -    -    Healthy  nvidia.com/gpu
1    NVIDIA H100 80GB HBM3  -       0     -    -    Healthy  nvidia.com/gpu"#]];
        expected.assert_eq(&table(&node(2)));
    }
}
