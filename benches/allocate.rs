//! Allocate beside an empty call, through gRPC over a unix socket, in one process: `cargo bench
//! --bench allocate`.

mod sample;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

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
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};

fn bench(criterion: &mut Criterion) {
    // Each of the two has a thread of its own, as the daemon's for the kubelet is.
    let server_runtime = runtime();
    let client_runtime = runtime();
    let directory = tempfile::tempdir().expect("a directory");
    let gpus = (0..8).map(|index| sample::gpu(index, 0));
    let inventory = sample::node(gpus, Layout::default(), AllocationPolicy::default());
    let (_publish, snapshots) = watch::channel(Arc::new(inventory));
    let mut server = server_runtime.block_on(async {
        Server::start(
            directory.path(),
            &ResourceName::gpu(),
            snapshots,
            &PluginTelemetry::new(CallDurations::default(), None, ChangeSignal::default()),
        )
        .expect("a server")
    });
    let (stop, stopped) = oneshot::channel();
    let path: PathBuf = server.path.clone();
    let serving = thread::spawn(move || {
        server_runtime.block_on(async {
            // The sender says nothing.
            let _ = stopped.await;
            server.stop(true).await;
        });
    });
    let client = client_runtime.block_on(Kubelet::dial(path)).expect("a client");
    criterion.bench_function("empty call (GetDevicePluginOptions)", |bencher| {
        bencher.iter(|| {
            client_runtime
                .block_on(client.clone().get_device_plugin_options(Empty {}))
                .expect("an answer")
        });
    });
    for count in [1, 8] {
        let device_ids: Vec<String> =
            (0..count).map(|index| sample::gpu(index, 0).uuid.to_string()).collect();
        let request =
            AllocateRequest { container_requests: vec![ContainerAllocateRequest { device_ids }] };
        criterion.bench_function(&format!("Allocate of {count}"), |bencher| {
            bencher.iter(|| {
                client_runtime
                    .block_on(client.clone().allocate(request.clone()))
                    .expect("an answer")
            });
        });
    }
    drop::<oneshot::Sender<()>>(stop);
    serving.join().expect("the server's thread");
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

criterion_group!(benches, bench);
criterion_main!(benches);
