//! How long lists and allocations take on nodes with many devices, and a configuration of many
//! resources.

mod sample;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use device::allocation::AllocationPolicy;
use device::inventory::Inventory;
use device::layout::sharing::SharedResource;
use device::layout::{Layout, MigStrategy};
use device::names::ResourceName;
use gpu_device_plugin::kubelet::device_plugin::calls::CallDurations;
use gpu_device_plugin::kubelet::device_plugin::service::{Service, advertised_devices};
use gpu_device_plugin::kubelet::device_plugin::telemetry::PluginTelemetry;
use gpu_device_plugin::kubelet::device_plugin::wire;
use gpu_device_plugin::util::change_signal::ChangeSignal;
use tokio::sync::watch;

fn mixed(resources: Vec<SharedResource>) -> Layout {
    Layout {
        mig_strategy: MigStrategy::Mixed,
        sharing: sample::time_slicing(resources),
        ..Layout::default()
    }
}

/// A node of `gpus` GPUs in `slices` MIG devices each (0: whole), of which each is there `replicas`
/// times.
fn node(gpus: u32, slices: u32, name: &ResourceName, replicas: u32) -> Inventory {
    let resources = (replicas > 1).then(|| sample::shared(name, replicas)).into_iter().collect();
    sample::node(
        (0..gpus).map(|index| sample::gpu(index, slices)),
        mixed(resources),
        AllocationPolicy::default(),
    )
}

fn lists(criterion: &mut Criterion) {
    let (whole, slice) =
        (ResourceName::gpu(), "nvidia.com/mig-1g.10gb".parse::<ResourceName>().expect("a name"));
    let cases = [
        ("8 devices", node(8, 0, &whole, 1), &whole, 8),
        ("560 devices", node(8, 7, &slice, 10), &slice, 560),
        ("2048 devices", node(16, 0, &whole, 128), &whole, 2_048),
    ];
    for (title, inventory, name, count) in cases {
        let ids: Vec<String> = inventory
            .devices(name)
            .expect("the resource")
            .keys()
            .map(ToString::to_string)
            .collect();
        assert_eq!(ids.len(), count);
        let (publish, snapshots) = watch::channel(Arc::new(inventory.clone()));
        let (_alive, end) = watch::channel(());
        let telemetry =
            PluginTelemetry::new(CallDurations::default(), None, ChangeSignal::default());
        let service = Service {
            resource: name.clone(),
            inventory: snapshots,
            alive: end,
            streams: watch::Sender::default(),
            telemetry,
        };
        let mut group = criterion.benchmark_group(title);
        group.bench_function("list built and encoded", |bencher| {
            bencher.iter(|| {
                wire::encoded_list(&advertised_devices(black_box(name), black_box(&inventory)))
            });
        });
        group.bench_function("allocate one", |bencher| {
            bencher.iter(|| {
                let ids = black_box(vec![ids[count / 2].clone()]);
                service.allocation(1).container(ids).expect("a device")
            });
        });
        group.bench_function("laid out", |bencher| {
            bencher.iter_batched(
                || inventory.clone(),
                |mut inventory| inventory.set_layout(inventory.layout().clone()),
                BatchSize::SmallInput,
            );
        });
        group.finish();
        drop(publish);
    }
}

/// A hundred resources by model, each shared, on a node of 16 GPUs: from the file's rules to the
/// new lists.
fn hundred(criterion: &mut Criterion) {
    use device::layout::NamePattern;
    use device::layout::filter::Pattern;
    let name =
        |number: u32| format!("nvidia.com/model-{number}").parse::<ResourceName>().expect("a name");
    let layout = |replicas| Layout {
        gpu_names: (0..100)
            .map(|number| NamePattern {
                pattern: Pattern::new(format!("NVIDIA Model {number} *")),
                name: name(number),
            })
            .collect(),
        sharing: sample::time_slicing(
            (0..100).map(|number| sample::shared(&name(number), replicas)).collect(),
        ),
        ..Layout::default()
    };
    let gpus = (0..16).map(|index| sample::gpu(index, 0));
    let inventory = sample::node(gpus, layout(10), AllocationPolicy::default());
    let new = layout(12);
    criterion.bench_function("100 resources applied", |bencher| {
        bencher.iter_batched(
            || (inventory.clone(), new.clone()),
            |(mut inventory, new)| inventory.set_layout(new),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, lists, hundred);
criterion_main!(benches);
