use super::book::{MAX_OTHER_STREAMS, MAX_OTHERS, MAX_SILENT, MAX_UNUSED};
use super::*;

fn stream(connections: &Connections) -> StreamLevel {
    connections.levels().borrow().stream
}

fn is_open(closed: &mut oneshot::Receiver<()>) -> bool {
    closed.try_recv() == Err(oneshot::error::TryRecvError::Empty)
}

#[test]
fn the_connection_that_answers_the_registration_is_the_kubelets() {
    let connections = Connections::default();
    let (before, _before) = connections.enter();
    assert!(before.stream_opens());
    connections.registering();
    let (kubelet, _kubelet) = connections.enter();
    let (watcher, _watcher) = connections.enter();
    kubelet.options_asked();
    assert_eq!(connections.levels().borrow().kubelet, 1, "it is known before its stream");
    // Options that are asked for on a connection from before are no answer.
    before.options_asked();
    connections.register_answered();
    assert_eq!(stream(&connections), StreamLevel::Never, "that of before is another's");
    assert!(watcher.stream_opens(), "one that did not ask may be the kubelet's");
    assert!(kubelet.stream_opens(), "but one that did comes before it");
    watcher.stream_ended();
    assert_eq!(stream(&connections), StreamLevel::Open);
    kubelet.stream_ended();
    assert!(watcher.stream_opens());
    assert_eq!(stream(&connections), StreamLevel::Ended, "other streams do not hide that");
    kubelet.closed();
    let levels = *connections.levels().borrow();
    assert_eq!((levels.stream, levels.kubelet, levels.all), (StreamLevel::Ended, 0, 2));
}

#[test]
fn too_many_connections_close_idle_ones_and_never_the_kubelets() {
    let connections = Connections::default();
    connections.registering();
    let (kubelet, mut kubelets) = connections.enter();
    kubelet.call_began();
    kubelet.options_asked();
    kubelet.call_ended();
    connections.register_answered();
    assert!(kubelet.stream_opens());
    let (busy, mut busys) = connections.enter();
    busy.call_began();
    let mut others = Vec::new();
    for _ in 0..3 * MAX_OTHERS {
        let (other, closed) = connections.enter();
        other.call_began();
        other.call_ended();
        others.push(closed);
    }
    assert!(is_open(&mut kubelets) && is_open(&mut busys));
    let open = others.iter_mut().map(is_open).collect::<Vec<_>>();
    assert_eq!(open.iter().filter(|open| **open).count(), MAX_OTHERS - 1);
    assert!(open.is_sorted(), "those that were used last stay");
    for (greets, most) in [(false, MAX_SILENT), (true, MAX_UNUSED)] {
        let mut unused = Vec::new();
        for _ in 0..3 * most {
            let (peer, closed) = connections.enter();
            if greets {
                peer.greeted();
            }
            unused.push(closed);
        }
        let open = unused.iter_mut().map(is_open).collect::<Vec<_>>();
        assert_eq!(open.iter().filter(|open| **open).count(), most);
        assert!(open.is_sorted(), "the newest stay");
    }
    assert!(is_open(&mut kubelets) && is_open(&mut busys));
}

#[test]
fn others_streams_are_limited_and_the_kubelets_is_not_among_them() {
    let connections = Connections::default();
    let (other, _other) = connections.enter();
    connections.registering();
    let (kubelet, _kubelet) = connections.enter();
    kubelet.options_asked();
    let opened = (0..2 * MAX_OTHER_STREAMS).filter(|_| other.stream_opens()).count();
    assert_eq!(opened, MAX_OTHER_STREAMS);
    assert!(kubelet.stream_opens());
    other.stream_ended();
    assert!(other.stream_opens() && !other.stream_opens());
    assert_eq!(stream(&connections), StreamLevel::Open);
}

#[tokio::test]
async fn the_kubelet_waits_for_nobodys_turn() {
    let connections = Connections::default();
    let (other, _other) = connections.enter();
    connections.registering();
    let (kubelet, _kubelet) = connections.enter();
    kubelet.options_asked();
    let held = other.turn().await;
    assert!(held.is_some() && kubelet.turn().await.is_none());
    assert!(!Arc::ptr_eq(&kubelet.memory().requests, &other.memory().requests));
}
