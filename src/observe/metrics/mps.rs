//! What the clients of MPS get.

use status::{MpsSharing, Resource};

use super::text::Text;

const MIB: u64 = 1 << 20;

/// The control daemon of each resource that MPS shares, and what a replica gets.
pub(super) fn mps(text: &mut Text, resources: &[Resource]) {
    let shared = || {
        let of = |resource: &Resource| resource.sharing.as_ref()?.mps.clone();
        resources.iter().filter_map(move |resource| Some((&*resource.name, of(resource)?)))
    };
    let help = "Whether the MPS control daemon of a resource works for clients.";
    text.gauge("gpu_device_plugin_mps_daemon_up", help)
        .add_by("resource", shared().map(|(name, mps)| (name, u8::from(mps.up))));
    let help = "The share of a GPU's threads that one replica gets, of 1.";
    let mut family = text.gauge("gpu_device_plugin_mps_replica_thread_ratio", help);
    for (name, mps) in shared() {
        each(&mps, |gpu, threads, _| {
            family.add(&[("uuid", gpu), ("resource", name)], f64::from(threads) / 100.0);
        });
    }
    let help = "The memory of a GPU that one replica gets.";
    let mut family = text.gauge("gpu_device_plugin_mps_replica_memory_bytes", help);
    for (name, mps) in shared() {
        each(&mps, |gpu, _, memory| {
            if let Some(mib) = memory {
                family.add(&[("uuid", gpu), ("resource", name)], mib.saturating_mul(MIB));
            }
        });
    }
}

fn each(mps: &MpsSharing, mut write: impl FnMut(&str, u32, Option<u64>)) {
    for share in &mps.shares {
        write(&share.gpu, share.thread_percentage, share.memory_mib);
    }
}
