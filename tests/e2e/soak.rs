//! Nothing grows: a thousand kubelet restarts, and what is left of them.
//!
//! `SOAK_RESTARTS=10000 cargo test --test e2e soak` goes on for longer.

use simnode::node::Figures;

use crate::rig::{GPU, Rig, eight_h100s, plugin};

/// After so many lives everything has been done that is done once, and what the allocator keeps has
/// settled: most of its growth is in the first 250.
const WARM: u64 = 300;

/// Kubelet restarts, unless the environment asks for more.
const RESTARTS: u64 = 1000;

fn restarts() -> u64 {
    let asked = std::env::var("SOAK_RESTARTS").ok().map(|text| text.parse().unwrap());
    asked.unwrap_or(RESTARTS)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_kubelet_restarts_leak_nothing() {
    let node = eight_h100s();
    let config = node.kubelet();
    // One heap, as the image sets it: with one for each thread glibc keeps ever more for some
    // thousand restarts, and a leak would hide in that.
    let options = plugin().env("HEALTH_POLL_INTERVAL", "100ms").env("MALLOC_ARENA_MAX", "1");
    let rig = Rig::on(node, config, &options, 8).await;
    let (restarts, mut warm) = (restarts(), None);
    for life in 2..=restarts + 1 {
        rig.kubelet.restart().await.unwrap();
        rig.until("the list in a new life", |view| view.life == life && view.allocatable(GPU) == 8)
            .await;
        if life == WARM {
            warm = Some(rig.settled("the first of them", |_| true).await);
        }
    }
    let warm = warm.unwrap();
    // A thread that is not needed any more stays for some seconds.
    let no_more =
        |last: &Figures| last.threads <= warm.threads && last.descriptors <= warm.descriptors;
    let last =
        rig.settled(&format!("no more threads and descriptors than in {warm:?}"), no_more).await;
    assert_eq!(rig.node.plugin_sockets().len(), 1);
    // What the allocator keeps settles; 190 bytes lost at each restart would be more than this. In
    // a longer run 32 bytes lost at each further restart would be.
    let allowed = 128 + restarts.saturating_sub(RESTARTS) * 32 / 1024;
    assert!(last.anonymous_kib <= warm.anonymous_kib + allowed, "from {warm:?} to {last:?}");
    rig.assert_flawless();
    println!("after {WARM} restarts: {warm:?}\nafter {restarts}: {last:?}");
}
