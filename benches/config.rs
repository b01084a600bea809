//! How long it takes to read, compare and show a configuration of 100 resources.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gpu_device_plugin::config::{FileText, Purpose, Sources, load, show};

/// A file that names 100 resources by model, shares each, and sets the rest.
fn hundred_resources(replicas: u32) -> FileText {
    let mut text = String::from(
        "version: v1\nflags:\n  plugin:\n    customResources: true\nresources:\n  gpus:\n",
    );
    for number in 0..100 {
        text.push_str(&format!(
            "  - pattern: 'NVIDIA Model {number} *'\n    name: model-{number}\n"
        ));
    }
    text.push_str("sharing:\n  timeSlicing:\n    renameByDefault: true\n    resources:\n");
    for number in 0..100 {
        text.push_str(&format!(
            "    - name: nvidia.com/model-{number}\n      replicas: {replicas}\n      devices: \
                all\n"
        ));
    }
    FileText { path: "/config/config.yaml".into(), content: Ok(text.into_bytes()) }
}

fn config(criterion: &mut Criterion) {
    let (sources, old, new) = (Sources::default(), hundred_resources(10), hundred_resources(12));
    let read = |file: &FileText| {
        load(&sources, Some(file), Purpose::Serve).expect("the file has no mistakes").config
    };
    let in_force = read(&old);
    let mut group = criterion.benchmark_group("100 resources");
    group.bench_function("read", |bencher| bencher.iter(|| read(black_box(&new))));
    group.bench_function("read and compare", |bencher| {
        bencher.iter(|| in_force.changes(&read(black_box(&new))))
    });
    group.bench_function("show", |bencher| bencher.iter(|| show(black_box(&in_force), false)));
    group.finish();
}

criterion_group!(benches, config);
criterion_main!(benches);
