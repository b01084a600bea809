//! The ListAndWatch stream: what a message does, what its end does, and what a second registration
//! does to it.

use std::time::Duration;

use simnode::kubelet::{KubeletVersion, Limits, RECEIVE_LIMIT, ResourceView, View, ViolationKind};
use simnode::proto::ListAndWatchResponse;

use crate::support::{
    Behaviour, GPU, Home, SOON, TestPlugin, device, devices, kubelet, limited, with_health,
};

const GRACE: Duration = Duration::from_secs(1);

async fn started(version: KubeletVersion) -> (Home, TestPlugin) {
    started_on(kubelet(version).await).await
}

/// With a grace time that a test can wait for.
async fn started_with_grace(grace: Duration) -> (Home, TestPlugin) {
    started_on(limited(KubeletVersion::V1_36, |limits| limits.grace = grace).await).await
}

async fn started_on(home: Home) -> (Home, TestPlugin) {
    let plugin = TestPlugin::start(&home.kubelet, "a.sock", Behaviour::default()).await;
    home.kubelet.wait_allocatable(GPU, 4, SOON).await.expect("listed");
    (home, plugin)
}

fn resource(view: &View) -> &ResourceView {
    view.resource(GPU).expect("registered")
}

#[tokio::test]
async fn success_of_register_does_not_mean_that_a_list_has_come() {
    let home = kubelet(KubeletVersion::V1_36).await;
    let behaviour = Behaviour { list: None, ..Behaviour::default() };
    let plugin = TestPlugin::start(&home.kubelet, "a.sock", behaviour).await;
    home.kubelet
        .wait_until("the stream is open", SOON, |view| resource(view).stream_open)
        .await
        .expect("open");
    assert_eq!(resource(&home.kubelet.view()).lists_received, 0);
    plugin.send(devices(&["a"]));
    home.kubelet.wait_allocatable(GPU, 1, SOON).await.expect("listed");
}

#[tokio::test]
async fn a_message_replaces_every_device() {
    let (home, plugin) = started(KubeletVersion::V1_36).await;
    plugin.send(devices(&["x"]));
    let view = home.kubelet.wait_allocatable(GPU, 1, SOON).await.expect("replaced");
    assert_eq!(resource(&view).devices.keys().collect::<Vec<_>>(), ["x"]);
    assert_eq!(resource(&view).capacity, 1);
    assert_eq!(home.kubelet.lists(GPU).len(), 2);
}

#[tokio::test]
async fn an_empty_list_keeps_the_endpoint() {
    let (home, plugin) = started(KubeletVersion::V1_36).await;
    plugin.send(Vec::new());
    let view = home
        .kubelet
        .wait_until("no capacity", SOON, |view| view.capacity(GPU) == 0)
        .await
        .expect("empty");
    assert!(resource(&view).stream_open && resource(&view).known);
    plugin.send(devices(&["a"]));
    home.kubelet.wait_allocatable(GPU, 1, SOON).await.expect("the endpoint is in use again");
}

#[tokio::test]
async fn only_the_exact_word_is_healthy() {
    let (home, plugin) = started(KubeletVersion::V1_36).await;
    plugin.send(vec![
        device("a"),
        with_health("b", "healthy"),
        with_health("c", ""),
        with_health("d", "Unhealthy"),
    ]);
    let view = home.kubelet.wait_allocatable(GPU, 1, SOON).await.expect("one is healthy");
    assert_eq!(view.healthy(GPU, "a"), Some(true));
    assert_eq!(resource(&view).capacity, 4);
}

#[tokio::test]
async fn an_id_in_both_states_counts_twice() {
    let (home, plugin) = started(KubeletVersion::V1_36).await;
    plugin.send(vec![device("a"), with_health("a", "Unhealthy")]);
    let view = home.kubelet.wait_allocatable(GPU, 1, SOON).await.expect("one is healthy");
    assert_eq!((resource(&view).capacity, resource(&view).devices.len()), (2, 1));
}

/// A list of exactly that many bytes in protobuf.
fn list_of_size(bytes: usize) -> Vec<simnode::proto::Device> {
    let size = |devices: &Vec<_>| {
        prost::Message::encoded_len(&ListAndWatchResponse { devices: devices.clone() })
    };
    let mut list: Vec<_> = (0..bytes / 64).map(|number| device(&format!("{number:040}"))).collect();
    list.push(device("z"));
    // One long id fills the rest; its length fields grow with it.
    let rest = bytes - size(&list);
    for length in (rest - 8..=rest).rev() {
        *list.last_mut().expect("pushed") = device(&"z".repeat(length));
        if size(&list) == bytes {
            break;
        }
    }
    assert_eq!(size(&list), bytes);
    list
}

#[tokio::test]
async fn a_message_of_four_mebibytes_passes_and_one_byte_more_breaks_the_stream() {
    let (home, plugin) = started(KubeletVersion::V1_36).await;
    let list = list_of_size(RECEIVE_LIMIT);
    let count = list.len();
    plugin.send(list);
    home.kubelet.wait_allocatable(GPU, count, SOON).await.expect("taken");
    plugin.send(list_of_size(RECEIVE_LIMIT + 1));
    let view = home.kubelet.wait_allocatable(GPU, 0, SOON).await.expect("disconnected");
    assert_eq!(resource(&view).capacity, count, "the list was not taken");
    plugin.streams_closed().await;
}

#[tokio::test]
async fn the_end_of_the_stream_makes_every_device_unhealthy_and_nobody_dials_again() {
    let (home, plugin) = started_with_grace(GRACE).await;
    plugin.end_streams();
    let view = home.kubelet.wait_allocatable(GPU, 0, SOON).await.expect("unhealthy");
    assert_eq!((resource(&view).capacity, resource(&view).stream_open), (4, false));
    assert!(resource(&view).devices.values().all(|device| !device.healthy));

    // The grace time counts from the last stop.
    assert_eq!(Limits::default().grace, Duration::from_secs(5 * 60));
    let again = TestPlugin::start(&home.kubelet, "b.sock", Behaviour::default()).await;
    home.kubelet.wait_allocatable(GPU, 4, SOON).await.expect("listed");
    again.end_streams();
    let view = home.kubelet.wait_allocatable(GPU, 0, SOON).await.expect("unhealthy");
    let stopped = resource(&view).stopped_at.expect("stopped");
    let gone = home
        .kubelet
        .wait_until("the resource is dropped", SOON, |view| !resource(view).known)
        .await;
    assert_eq!(resource(&gone.expect("dropped")).capacity, 0);
    assert!(stopped.elapsed() >= GRACE, "{:?}", stopped.elapsed());
    assert_eq!((plugin.streams_opened(), again.streams_opened()), (1, 1));
}

#[tokio::test]
async fn registering_again_in_the_grace_time_restores_everything() {
    let (home, plugin) = started_with_grace(GRACE).await;
    home.kubelet.allocate("pod", "main", GPU, 1).await.expect("allocated");
    plugin.stop().await;
    home.kubelet.wait_allocatable(GPU, 0, SOON).await.expect("unhealthy");
    let _plugin = TestPlugin::start(&home.kubelet, "b.sock", Behaviour::default()).await;
    home.kubelet.wait_allocatable(GPU, 4, SOON).await.expect("healthy");

    // Another resource stops later and is dropped: by then the grace time of the first stop is
    // over, too.
    let other = Behaviour { resource: "nvidia.com/other".to_owned(), ..Behaviour::default() };
    let other = TestPlugin::start(&home.kubelet, "c.sock", other.list(devices(&["o"]))).await;
    home.kubelet.wait_allocatable("nvidia.com/other", 1, SOON).await.expect("listed");
    other.stop().await;
    let dropped = home.kubelet.wait_until("the other is dropped", SOON, |view| {
        view.resource("nvidia.com/other").is_some_and(|other| !other.known)
    });
    assert_eq!(dropped.await.expect("dropped").allocatable(GPU), 4);
    assert_eq!(home.kubelet.pod_devices().len(), 1);
}

/// A second plugin registers on a socket of its own while the first one's stream is open, and then
/// the first ends.
async fn overlapping(version: KubeletVersion) -> (Home, TestPlugin) {
    let (home, old) = started(version).await;
    let list = devices(&["a", "b", "c", "d", "e"]);
    let new = TestPlugin::start(&home.kubelet, "b.sock", Behaviour::default().list(list)).await;
    home.kubelet.wait_allocatable(GPU, 5, SOON).await.expect("the new list has come");
    old.stop().await;
    (home, new)
}

#[tokio::test]
async fn up_to_1_36_the_old_streams_end_takes_the_new_client_with_it() {
    for version in [KubeletVersion::V1_32, KubeletVersion::V1_36] {
        let (home, new) = overlapping(version).await;
        home.kubelet.wait_allocatable(GPU, 0, SOON).await.expect("the new client was disconnected");
        new.streams_closed().await;
        let stream_closed = |view: &View| !resource(view).stream_open;
        home.kubelet
            .wait_until("the new stream is closed", SOON, stream_closed)
            .await
            .expect("closed");
        let kinds: Vec<_> =
            home.kubelet.violations().into_iter().map(|violation| violation.kind).collect();
        assert_eq!(kinds, [ViolationKind::OverlappingRegistration]);

        new.stop().await;
        let _third = TestPlugin::start(&home.kubelet, "c.sock", Behaviour::default()).await;
        home.kubelet
            .wait_allocatable(GPU, 4, SOON)
            .await
            .expect("a further registration repairs it");
    }
}

#[tokio::test]
async fn from_1_37_on_the_old_streams_end_leaves_the_new_client_alone() {
    let (home, new) = overlapping(KubeletVersion::V1_37).await;
    // The old stream's end is dealt with before the answer to this one.
    let other = Behaviour { resource: "nvidia.com/other".to_owned(), ..Behaviour::default() };
    let _other = TestPlugin::start(&home.kubelet, "c.sock", other.list(devices(&["o"]))).await;
    new.send(devices(&["a", "b", "c", "d", "e", "f"]));
    home.kubelet.wait_allocatable(GPU, 6, SOON).await.expect("the new stream goes on");
    home.kubelet.allocate("pod", "main", GPU, 1).await.expect("the endpoint was not stopped");
    assert_eq!(home.kubelet.violations(), []);
}

#[tokio::test]
async fn from_1_37_on_a_socket_cannot_be_registered_twice_while_its_stream_lives() {
    let (home, plugin) = started(KubeletVersion::V1_37).await;
    let error = plugin.register().await.expect_err("refused");
    assert!(error.message().contains("already registered"), "{error}");
    assert_eq!(home.kubelet.view().allocatable(GPU), 4);

    plugin.end_streams();
    home.kubelet.wait_allocatable(GPU, 0, SOON).await.expect("severed");
    plugin.register().await.expect("registered now");
    home.kubelet.wait_allocatable(GPU, 4, SOON).await.expect("listed");
}

#[tokio::test]
async fn the_same_socket_twice_in_one_life_is_noted() {
    let (home, plugin) = started(KubeletVersion::V1_36).await;
    plugin.end_streams();
    home.kubelet.wait_allocatable(GPU, 0, SOON).await.expect("ended");
    plugin.register().await.expect("registered");
    let kinds: Vec<_> =
        home.kubelet.violations().into_iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, [ViolationKind::ReusedEndpoint]);
}

#[tokio::test]
async fn a_connection_that_is_cut_on_the_way_ends_as_any_other() {
    let (home, plugin) = started(KubeletVersion::V1_36).await;
    home.kubelet.drop_stream(GPU);
    let view = home.kubelet.wait_allocatable(GPU, 0, SOON).await.expect("disconnected");
    assert!(resource(&view).stopped_at.is_some());
    plugin.streams_closed().await;
}
