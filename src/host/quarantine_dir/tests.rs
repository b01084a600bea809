//! Tests of the quarantine directory and its writer.

use std::collections::BTreeMap;

use device::health::{Moment, NodeObservation};
use device::inventory::InventoryEvent;
use device::testing::node;
use tokio::sync::mpsc;

use super::*;

fn quarantined(inventory: &mut Arc<Inventory>, gpus: &[&str]) {
    let gpus = gpus.iter().map(|uuid| (uuid.parse().unwrap(), Arc::from(""))).collect();
    let event = InventoryEvent::Health(NodeObservation::Quarantine(gpus));
    Arc::make_mut(inventory).apply(Moment::default(), event);
}

/// Of two that write the quarantine one could once believe that its word was in force.
#[tokio::test]
async fn each_look_is_compared_with_what_the_inventory_holds() {
    let place = tempfile::tempdir().unwrap();
    let watches = Watches::default();
    let quarantine_dir = QuarantineDir::new(Some(place.path()), &watches);
    quarantine_dir.read().await;
    let (inventory_tx, inventory) = watch::channel(Arc::new(node(2)));
    let (sent_tx, mut sent) = mpsc::unbounded_channel();
    let send = async |quarantine: Quarantine| {
        let gpus: Vec<_> = quarantine.keys().map(ToString::to_string).collect();
        inventory_tx.send_modify(|inventory| {
            let gpus: Vec<_> = gpus.iter().map(String::as_str).collect();
            quarantined(inventory, &gpus);
        });
        let _ = sent_tx.send(gpus);
    };
    let follow = follow(&quarantine_dir, &watches, inventory, send, async |_| true);
    let steps = async {
        // A look at least has begun once this is sent.
        fs::write(place.path().join("0"), "").unwrap();
        assert_eq!(sent.recv().await.unwrap(), ["GPU-0"]);
        fs::remove_file(place.path().join("0")).unwrap();
        assert_eq!(sent.recv().await.unwrap(), [""; 0]);
        // The other writer says what was there before.
        inventory_tx.send_modify(|inventory| quarantined(inventory, &["GPU-0"]));
        fs::write(place.path().join(".any"), "").unwrap();
        assert_eq!(sent.recv().await.unwrap(), [""; 0]);
    };
    tokio::select! {
        never = follow => match never {},
        () = steps => {}
    }
    let held = inventory_tx.borrow().node_health().quarantine().clone();
    assert_eq!(held, BTreeMap::new());
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_hangs_holds_up_no_start_and_releases_no_gpu() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("1"), "").unwrap();
    let quarantine_dir = QuarantineDir::new(Some(place.path()), &Watches::default());
    let inner = quarantine_dir.0.clone().unwrap();
    // Until it is read.
    while quarantine_dir.entries(&node(2)).is_empty() {
        quarantine_dir.read().await;
    }
    let (go_on, waits) = std::sync::mpsc::channel::<()>();
    let hanging = inner.thread.submit(move |_| waits.recv().is_err());
    quarantine_dir.read().await;
    assert_eq!(quarantine_dir.entries(&node(2)).len(), 1);
    drop(go_on);
    hanging.await.unwrap();
}
