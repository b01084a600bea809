//! Allocate beside an empty call, through gRPC over a unix socket, in one process: `cargo bench
//! --bench allocate`.

mod sample;

use std::path::PathBuf;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use device::allocation::AllocationPolicy;
use device::layout::Layout;
use device::names::ResourceName;
use gpu_device_plugin::kubelet::device_plugin::calls::CallDurations;
use gpu_device_plugin::kubelet::device_plugin::server::Server;
use gpu_device_plugin::kubelet::device_plugin::telemetry::PluginTelemetry;
use gpu_device_plugin::util::change_signal::ChangeSignal;
use simnode::kubelet::Kubelet;
use simnode::proto::{AllocateRequest, ContainerAllocateRequest, Empty};
use tokio::sync::watch;

fn bench(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    let gpus = (0..8).map(|index| sample::gpu(index, 0));
    let inventory = sample::node(gpus, Layout::default(), AllocationPolicy::default());
    let (_publish, snapshots) = watch::channel(Arc::new(inventory));
    let (mut server, client) = runtime.block_on(async {
        let server = Server::start(
            directory.path(),
            &ResourceName::gpu(),
            snapshots,
            &PluginTelemetry::new(CallDurations::default(), None, ChangeSignal::default()),
        )
        .expect("a server");
        let path: PathBuf = server.path.clone();
        (server, Kubelet::dial(path).await.expect("a client"))
    });
    criterion.bench_function("empty call (GetDevicePluginOptions)", |bencher| {
        bencher.iter(|| {
            runtime.block_on(client.clone().get_device_plugin_options(Empty {})).expect("an answer")
        });
    });
    for count in [1, 8] {
        let device_ids: Vec<String> =
            (0..count).map(|index| sample::gpu(index, 0).uuid.to_string()).collect();
        let request =
            AllocateRequest { container_requests: vec![ContainerAllocateRequest { device_ids }] };
        criterion.bench_function(&format!("Allocate of {count}"), |bencher| {
            bencher.iter(|| {
                runtime.block_on(client.clone().allocate(request.clone())).expect("an answer")
            });
        });
    }
    runtime.block_on(server.stop(true));
}

criterion_group!(benches, bench);
criterion_main!(benches);
