//! How long the CDI specifications of a large node take: 56 MIG devices, and a driver of 400 files.

mod sample;

use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use device::allocation::AllocationPolicy;
use device::cdi::Specifications;
use device::injection::{DeviceListStrategy, Injector};
use device::inventory::Inventory;
use device::layout::{Layout, MigStrategy};
use gpu_device_plugin::cdi::generate::HostCache;
use gpu_device_plugin::cdi::{CdiPaths, CdiSettings, Document, file_name};
use gpu_device_plugin::host::device_nodes::Roots;
use gpu_device_plugin::host::file;

const VERSION: &str = "580.95.05";
const FILES: u32 = 400;

/// A driver's root with so many libraries, as many files of others, and the capability numbers of
/// eight GPUs.
fn driver(root: &Path) -> CdiPaths {
    let libraries = root.join("usr/lib64");
    fs::create_dir_all(&libraries).expect("a directory");
    fs::create_dir_all(root.join("dev")).expect("a directory");
    for number in 0..FILES - 1 {
        let names = [format!("libnv{number}.so.{VERSION}"), format!("libother{number}.so.1")];
        names.iter().for_each(|name| fs::write(libraries.join(name), "").expect("a file"));
    }
    fs::write(libraries.join(format!("libcuda.so.{VERSION}")), "").expect("a file");
    let mut minors = String::from("config 1\nmonitor 2\n");
    let mut number = 3;
    for gpu in 0..8 {
        for gi in 0..15 {
            minors.push_str(&format!("gpu{gpu}/gi{gi}/access {number}\n"));
            number += 1;
            for ci in 0..8 {
                minors.push_str(&format!("gpu{gpu}/gi{gi}/ci{ci}/access {number}\n"));
                number += 1;
            }
        }
    }
    fs::create_dir_all(root.join("driver/nvidia-caps")).expect("a directory");
    fs::write(root.join("driver/nvidia-caps/mig-minors"), minors).expect("a file");
    let roots = Roots { driver: root.to_owned(), proc: root.to_owned() };
    let spec_dir = root.join("cdi");
    fs::create_dir(&spec_dir).expect("a directory");
    CdiPaths { spec_dir, roots, sysfs: root.join("sys"), ..CdiPaths::default() }
}

fn inventory() -> Inventory {
    let layout = Layout { mig_strategy: MigStrategy::Mixed, ..Layout::default() };
    let gpus = (0..8).map(|index| sample::gpu(index, 7));
    let mut inventory = sample::node(gpus, layout, AllocationPolicy::default());
    let strategies = [DeviceListStrategy::CdiCri].into();
    inventory.set_injector(Injector { strategies, ..Injector::default() });
    inventory
}

fn write(found: &Specifications, paths: &CdiPaths) {
    for specification in &found.files {
        let bytes = Document::from(specification).bytes();
        let path = paths.spec_dir.join(file_name(specification.class));
        file::replace(&path, &bytes, 0o644).expect("a disk");
    }
}

fn specifications(criterion: &mut Criterion) {
    // In memory, as /var/run/cdi is.
    let root = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let (paths, inventory) = (driver(root.path()), inventory());
    let settings = CdiSettings { driver_root: "/".to_owned(), ..CdiSettings::default() };
    let kept = [].into();
    let mut cache = HostCache::default();
    let found = cache.generate(&paths, &settings, Some(VERSION), &inventory, &kept);
    assert_eq!((found.files.len(), found.files[0].devices.len()), (1, 56));
    assert!(found.files[0].common.mounts.len() >= FILES as usize);
    criterion.bench_function("cdi/found, generated and written", |bencher| {
        bencher.iter(|| {
            cache.clear();
            let found = cache.generate(&paths, &settings, Some(VERSION), &inventory, &kept);
            write(black_box(&found), &paths);
        });
    });
    criterion.bench_function("cdi/generated and written after a change of a device", |bencher| {
        bencher.iter(|| {
            let found = cache.generate(&paths, &settings, Some(VERSION), &inventory, &kept);
            write(black_box(&found), &paths);
        });
    });
}

criterion_group!(benches, specifications);
criterion_main!(benches);
