//! Registration, and everything that can happen to it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use simnode::kubelet::{Kubelet, KubeletVersion, View, ViolationKind};
use simnode::node::{Plugin, PluginOptions};

use crate::observe::until;
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, kubelet, left_socket, plugin, without_polls};

const VERSIONS: [KubeletVersion; 3] =
    [KubeletVersion::V1_32, KubeletVersion::V1_36, KubeletVersion::V1_37];

/// The plugin's one socket.
fn own_socket(rig: &Rig) -> PathBuf {
    let sockets = rig.node.plugin_sockets();
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    sockets.into_iter().next().expect("there is one")
}

/// Removes the plugin directory, though the plugin may make a socket in it meanwhile.
fn remove_directory(directory: &Path) {
    while directory.exists() {
        let _ = std::fs::remove_dir_all(directory);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_gpus_are_registered_with_their_numa_nodes() {
    for version in VERSIONS {
        let rig = Rig::of(version).await;
        let view = rig.kubelet.view();
        let resource = view.resource(GPU).unwrap();
        assert_eq!((resource.capacity, resource.allocatable, resource.lists_received), (8, 8, 1));
        for index in 0..8 {
            let device = &resource.devices[&rig.node.uuid(index)];
            assert_eq!(device.numa, [i64::try_from(index / 4).unwrap()], "GPU {index}");
        }
        assert!(
            resource.endpoint.starts_with("nvidia-gpu-") && resource.endpoint.ends_with(".sock")
        );
        rig.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_comes_late_is_found() {
    let node = eight_h100s();
    let plugin = Plugin::start(&node, &plugin()).unwrap();
    plugin.wait_for_log("msg=\"serving\"", PATIENCE).await.unwrap();
    let rig = Rig { kubelet: kubelet(node.kubelet()).await, plugin, node };
    rig.until("the first list", |view| view.allocatable(GPU) == 8).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_directory_that_comes_late_is_found() {
    let node = eight_h100s();
    std::fs::remove_dir(node.kubelet_directory()).unwrap();
    let plugin = Plugin::start(&node, &plugin()).unwrap();
    plugin.wait_for_log("cannot bind a socket", PATIENCE).await.unwrap();
    let rig = Rig { kubelet: kubelet(node.kubelet()).await, plugin, node };
    rig.until("the first list", |view| view.allocatable(GPU) == 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_kubelet_has_its_devices_again_and_pods_keep_theirs() {
    for version in VERSIONS {
        let rig = Rig::of(version).await;
        let answer = rig.kubelet.allocate("pod", "main", GPU, 2).await.unwrap();
        for life in 2..5 {
            rig.kubelet.restart().await.unwrap();
            rig.until("the list in a new life", |view| {
                view.life == life && view.allocatable(GPU) == 8
            })
            .await;
            assert_eq!(rig.kubelet.allocate("pod", "main", GPU, 2).await.unwrap(), answer);
        }
        rig.assert_flawless();
        assert_eq!(rig.node.plugin_sockets().len(), 1, "no socket is left behind");
    }
}

/// The node has no GPUs for as long as it takes. What the machine does beside makes some restarts
/// take longer, so that the shortest counts.
#[tokio::test(flavor = "multi_thread")]
async fn another_client_that_stays_is_not_waited_for_when_the_kubelet_restarts() {
    // Ten times what it takes. A kubelet that is there gets longer to close its connection.
    const MOST: Duration = Duration::from_millis(250);
    let rig = Rig::of(KubeletVersion::V1_36).await;
    let mut took = Vec::new();
    for life in 2..10 {
        let mut other = Kubelet::dial(own_socket(&rig)).await.unwrap();
        let stream = other.list_and_watch(simnode::proto::Empty {}).await.unwrap();
        let mut stream = stream.into_inner();
        stream.message().await.unwrap().unwrap();
        rig.kubelet.restart().await.unwrap();
        let began = Instant::now();
        let view = rig.until("the list in a new life", |view| {
            view.life == life && view.allocatable(GPU) == 8
        });
        let registered = view.await.of_this_life().last().unwrap().at;
        took.push(registered.saturating_duration_since(began));
    }
    println!("registered after {took:?}");
    assert!(took.iter().any(|took| *took < MOST), "{took:?}");
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_socket_is_created_again_and_registered() {
    for version in VERSIONS {
        let rig = Rig::of(version).await;
        for registrations in 2..6 {
            std::fs::remove_file(own_socket(&rig)).unwrap();
            rig.until("registered again", |view| {
                view.accepted(GPU).count() == registrations && view.allocatable(GPU) == 8
            })
            .await;
        }
        rig.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_socket_is_given_up_and_left_to_its_new_owner() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    let path = own_socket(&rig);
    // Renamed into place: there is never a moment without a file at the path.
    let beside = path.with_extension("other");
    let _theirs = UnixListener::bind(&beside).unwrap();
    let inode = std::fs::metadata(&beside).unwrap().ino();
    std::fs::rename(&beside, &path).unwrap();
    rig.until("registered again", |view| {
        view.accepted(GPU).count() == 2 && view.allocatable(GPU) == 8
    })
    .await;
    assert_eq!(
        std::fs::metadata(&path).unwrap().ino(),
        inode,
        "only our own socket is ours to remove"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_socket_replaced_by_another_kubelets_is_registered_with() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    rig.kubelet.stop().await;
    rig.logged("the kubelet's ListAndWatch stream has ended").await;
    rig.kubelet.start_again().await.unwrap();
    rig.until("the list in a new life", |view| view.life == 2 && view.allocatable(GPU) == 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_is_followed_by_a_new_registration() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    rig.kubelet.drop_stream(GPU);
    rig.until("the stream is gone", |view| view.allocatable(GPU) == 0).await;
    rig.until("registered again", |view| {
        view.accepted(GPU).count() == 2 && view.allocatable(GPU) == 8
    })
    .await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_watcher_does_not_hide_that_the_kubelet_s_stream_is_gone() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    let mut second = rig.kubelet.client(GPU).await.unwrap();
    let mut stream = second.list_and_watch(simnode::proto::Empty {}).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    rig.kubelet.drop_stream(GPU);
    rig.until("registered again", |view| {
        view.accepted(GPU).count() == 2 && view.allocatable(GPU) == 8
    })
    .await;
    rig.logged("the kubelet's ListAndWatch stream has ended").await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_is_watched_and_not_answered_is_one() {
    for version in VERSIONS {
        let node = eight_h100s();
        let kubelet = kubelet(node.kubelet().version(version)).await;
        kubelet.delay_answers(10 * PATIENCE);
        let plugin = Plugin::start(&node, &without_polls()).unwrap();
        let rig = Rig { kubelet, plugin, node };
        rig.until("the first list", |view| view.allocatable(GPU) == 8).await;
        rig.logged("registered with the kubelet").await;
        // It is one that works: a change comes through, and so does the end.
        rig.xid_until_heard(3, 79).await;
        rig.kubelet.drop_stream(GPU);
        rig.until("registered again", |view| {
            view.accepted(GPU).count() == 2 && view.allocatable(GPU) == 7
        })
        .await;
        rig.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_comes_after_the_deadline_is_that_of_the_registration() {
    let node = eight_h100s();
    let kubelet = kubelet(node.kubelet().version(KubeletVersion::V1_37)).await;
    // The plugin waits for an answer for 15 s, and then 3 s for a late success.
    kubelet.delay_answers(10 * PATIENCE);
    kubelet.delay_streams(Duration::from_millis(16_500));
    let plugin = Plugin::start(&node, &plugin()).unwrap();
    let rig = Rig { kubelet, plugin, node };
    rig.until("the first list", |view| view.allocatable(GPU) == 8).await;
    rig.logged("it watches, though it did not answer the registration").await;
    assert_eq!(rig.registrations(), 1);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_dies_over_a_registration_is_registered_with_when_it_is_back() {
    let node = eight_h100s();
    let kubelet = kubelet(node.kubelet()).await;
    kubelet.delay_answers(10 * PATIENCE);
    kubelet.delay_streams(10 * PATIENCE);
    let plugin = Plugin::start(&node, &plugin()).unwrap();
    let rig = Rig { kubelet, plugin, node };
    rig.until("accepted", |view| view.accepted(GPU).count() == 1).await;
    rig.kubelet.delay_answers(Duration::ZERO);
    rig.kubelet.delay_streams(Duration::ZERO);
    rig.kubelet.restart().await.unwrap();
    rig.until("the list in a new life", |view| view.life == 2 && view.allocatable(GPU) == 8).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_mode_of_a_socket_makes_no_other_socket_of_it() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    let set_mode = |path: &Path, mode| {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, permissions).unwrap();
    };
    for path in [own_socket(&rig), rig.kubelet.socket()] {
        set_mode(&path, 0o600);
        set_mode(&path, 0o666);
    }
    // Wakes the plugin, which looks at both.
    let another = rig.node.kubelet_directory().join("another.sock");
    drop(UnixListener::bind(&another).unwrap());
    std::fs::remove_file(&another).unwrap();
    rig.xid_until_heard(0, 79).await;
    std::fs::remove_file(own_socket(&rig)).unwrap();
    rig.until("registered again", |view| {
        view.accepted(GPU).count() >= 2 && view.allocatable(GPU) == 7
    })
    .await;
    rig.logged("our socket was deleted").await;
    assert_eq!(rig.registrations(), 2, "{}", rig.plugin.log().join("\n"));
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_restarts_is_called_that() {
    for version in VERSIONS {
        let rig = Rig::of(version).await;
        for life in 2..7 {
            rig.kubelet.restart().await.unwrap();
            rig.until("the list in a new life", |view| {
                view.life == life && view.allocatable(GPU) == 8
            })
            .await;
        }
        rig.logged("the kubelet has restarted").await;
        let log = rig.plugin.log().join("\n");
        assert!(!log.contains("our socket was"), "{log}");
        rig.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_is_away_for_a_moment_is_no_warning() {
    let node = eight_h100s();
    let config = node.kubelet();
    let rig = Rig::on(node, config, &plugin().log_level("debug"), 8).await;
    rig.kubelet.stop().await;
    // Over half a second, with pauses that double from 2 ms.
    rig.logged("failures=10").await;
    rig.kubelet.start_again().await.unwrap();
    rig.until("the list in a new life", |view| view.life == 2 && view.allocatable(GPU) == 8).await;
    let log = rig.plugin.log();
    let warnings: Vec<_> = log.iter().filter(|line| line.contains("WARN")).collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_is_not_there_at_the_start_is_a_warning_at_once_with_the_path() {
    let node = eight_h100s();
    let options = plugin().env("HTTP_ADDRESS", "127.0.0.1:0");
    let first = Plugin::start(&node, &options).unwrap();
    let (_, line) = first.wait_for_log("cannot register, will retry", PATIENCE).await.unwrap();
    let socket = node.kubelet_socket().display().to_string();
    for part in ["WARN", &socket, "is not there", "is its directory mounted"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    let http = first.http(PATIENCE).await.unwrap();
    until(&http, "/readyz", "the path", |answer| answer.body.contains(&socket)).await;
    drop(first);
    left_socket(&node.kubelet_socket()).await;
    let second = Plugin::start(&node, &options).unwrap();
    let (_, line) = second.wait_for_log("cannot connect to the kubelet", PATIENCE).await.unwrap();
    for part in ["WARN", &socket, "onnection refused", "is the kubelet running"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert_eq!(line.matches("onnection refused").count(), 1, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_socket_that_is_not_permitted_is_a_warning_with_the_user() {
    const OTHER_USER: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let binary = env!("CARGO_BIN_EXE_gpu-device-plugin");
    let mut other_user = std::process::Command::new("setpriv");
    other_user.args(OTHER_USER).arg(binary).arg("--version");
    if !other_user.output().is_ok_and(|output| output.status.success()) {
        println!("not tested: this test may not run the program as another user");
        return;
    }
    let node = eight_h100s();
    // It may make its own sockets, and not connect to the kubelet's.
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(node.root(), 0o755);
    mode(&node.kubelet_directory(), 0o777);
    let _kubelet = UnixListener::bind(node.kubelet_socket()).unwrap();
    mode(&node.kubelet_socket(), 0o600);
    let options = OTHER_USER
        .iter()
        .fold(PluginOptions::new("setpriv").bare(), |options, word| options.arg(*word))
        .arg(binary)
        .arg("--state-dir=")
        .env("KUBELET_SOCKET", node.kubelet_socket())
        .env("NVML_LIBRARY", node.nvml_library())
        .env("POD_RESOURCES_SOCKET", "")
        .env("HTTP_ADDRESS", "");
    let plugin = Plugin::start(&node, &options).unwrap();
    let (_, line) = plugin.wait_for_log("cannot connect to the kubelet", PATIENCE).await.unwrap();
    let socket = node.kubelet_socket().display().to_string();
    for part in ["WARN", &socket, "this process is user 65534", "SELinux"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert_eq!(line.matches("ermission denied").count(), 1, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_plugin_for_the_same_resource_is_noticed_by_the_daemon_and_its_end_too() {
    let node = eight_h100s();
    let config = node.kubelet();
    let options = plugin().env("HTTP_ADDRESS", "127.0.0.1:0");
    let rig = Rig::on(node, config, &options, 8).await;
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    let socket = rig.node.kubelet_directory().join("nvidia-gpu.sock");
    let metric = |value| format!("gpu_device_plugin_findings{{kind=\"other_plugin\"}} {value}");
    let has = async |value: u32| {
        until(&http, "/metrics", "the finding", |answer| answer.body.contains(&metric(value))).await
    };
    has(0).await;
    let other = UnixListener::bind(&socket).unwrap();
    let line = rig.logged("another device plugin serves").await;
    for part in ["WARN", GPU, "nvidia-gpu.sock"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    has(1).await;
    let page = http.get("/").await.unwrap().body;
    assert!(page.contains("another device plugin serves nvidia.com/gpu"), "{page}");
    let status = http.get("/status").await.unwrap().body;
    assert!(status.contains("\"kind\":\"other_plugin\""), "{status}");
    drop(other);
    std::fs::remove_file(&socket).unwrap();
    rig.logged("no longer so: another device plugin serves").await;
    has(0).await;
    // It was noticed, and neither asked nor disturbed.
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_this_plugin_both_notice_the_other() {
    let rig = Rig::of(KubeletVersion::V1_37).await;
    rig.kubelet.forgive(ViolationKind::OverlappingRegistration);
    let second = Plugin::start(&rig.node, &plugin()).unwrap();
    let words = "run one gpu-device-plugin on each node";
    rig.logged(words).await;
    second.wait_for_log(words, PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_is_too_old_is_called_that() {
    let node = eight_h100s();
    let kubelet = kubelet(node.kubelet().version(KubeletVersion::V1_26)).await;
    kubelet.ask_by_path();
    let plugin = Plugin::start(&node, &plugin()).unwrap();
    let (_, line) = plugin.wait_for_log("cannot register", PATIENCE).await.unwrap();
    for part in ["WARN", "this kubelet is older than 1.26", "PROTOCOL_ERROR"] {
        assert!(line.contains(part), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_with_a_long_name_is_registered_in_a_directory_with_a_long_path() {
    let resource = format!("nvidia.com/{}", "a".repeat(52));
    let node = eight_h100s();
    let file = node.root().join("config.yaml");
    let sharing = format!("{{name: nvidia.com/gpu, rename: {resource}, replicas: 2}}");
    std::fs::write(
        &file,
        format!(
            "version: v1\nflags: {{plugin: {{customResources: true}}}}\n\
             sharing: {{timeSlicing: {{resources: [{sharing}]}}}}\n"
        ),
    )
    .unwrap();
    let mut config = node.kubelet();
    config.directory = node.root().join("d".repeat(60));
    let socket = config.directory.join("kubelet.sock");
    let kubelet = kubelet(config).await;
    let options = plugin()
        .bare()
        .env("KUBELET_SOCKET", socket)
        .env("NVML_LIBRARY", node.nvml_library())
        .env("CONFIG_FILE", &file);
    let plugin = Plugin::start(&node, &options).unwrap();
    let served = kubelet.wait_allocatable(&resource, 16, PATIENCE).await;
    served.unwrap_or_else(|error| panic!("{error:#}\n{}", plugin.log().join("\n")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_hangs_at_a_socket_like_ours_does_not_hold_the_start_up() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let node = eight_h100s();
    let kubelet = kubelet(node.kubelet()).await;
    let stream = || {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
    };
    let path = node.kubelet_directory().join("nvidia-gpu-aaaaaaaa.sock");
    let address = SocketAddrUnix::new(&path).unwrap();
    let listener = stream();
    rustix::net::bind(&listener, &address).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = stream();
        if rustix::net::connect(&client, &address).is_err() {
            break;
        }
        waiting.push(client);
    }
    let _plugin = Plugin::start(&node, &plugin()).unwrap();
    kubelet.wait_allocatable(GPU, 8, PATIENCE).await.unwrap();
    assert!(path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_watchers_both_get_every_change_and_a_dropped_one_leaks_nothing() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    let mut second = rig.kubelet.client(GPU).await.unwrap();
    let before = rig.settled("before", |_| true).await.descriptors;
    for index in 0..8 {
        let mut stream =
            second.list_and_watch(simnode::proto::Empty {}).await.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap();
        assert_eq!(
            first.devices.iter().filter(|device| device.health == "Healthy").count(),
            8 - index
        );
        rig.node.xid(index, 79).unwrap();
        let next = stream.message().await.unwrap().unwrap();
        assert_eq!(next.devices.len(), 8);
        assert_eq!(
            next.devices.iter().filter(|device| device.health == "Healthy").count(),
            7 - index
        );
        rig.until_healthy(index, false).await;
    }
    rig.settled("as many descriptors as before", |after| after.descriptors == before).await;
    assert_eq!(rig.registrations(), 1);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_a_killed_plugin_are_removed_by_the_next_and_others_are_not() {
    let mut rig = Rig::of(KubeletVersion::V1_36).await;
    let left = own_socket(&rig);
    let foreign = rig.node.kubelet_directory().join("nvidia-gpu.sock");
    left_socket(&foreign).await;
    rig.plugin.signal(9).unwrap();
    // Its connections can end before its socket does, which then still seems to be somebody's.
    rig.plugin.wait_exit(PATIENCE).await.unwrap();
    rig.until("the plugin is gone", |view| view.allocatable(GPU) == 0).await;
    assert!(left.exists());
    let second = Plugin::start(&rig.node, &plugin()).unwrap();
    let rig = Rig { plugin: second, ..rig };
    rig.until("the second plugin", |view| {
        view.accepted(GPU).count() == 2 && view.allocatable(GPU) == 8
    })
    .await;
    assert!(!left.exists() && foreign.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_plugin_takes_over_while_the_first_still_runs() {
    let rig = Rig::of(KubeletVersion::V1_37).await;
    let _second = Plugin::start(&rig.node, &plugin()).unwrap();
    rig.until("both have registered", |view| view.accepted(GPU).count() >= 2).await;
    rig.until("one of them is watched", |view| view.allocatable(GPU) == 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_plugin_that_was_taken_over_from_is_got_over_at_once() {
    for version in VERSIONS {
        let mut rig = Rig::of(version).await;
        // Up to 1.36 the kubelet disconnects the second one when the first one ends.
        rig.kubelet.forgive(ViolationKind::OverlappingRegistration);
        let second = Plugin::start(&rig.node, &plugin()).unwrap();
        rig.until("both have registered", |view| view.accepted(GPU).count() >= 2).await;
        rig.until("one of them is watched", |view| view.allocatable(GPU) == 8).await;
        let mut first = std::mem::replace(&mut rig.plugin, second);
        // A kubelet that has registered a plugin opens its stream after that.
        let streams = || rig.kubelet.lists(GPU).iter().map(|list| list.stream).max();
        let first_stream = rig.kubelet.lists(GPU)[0].stream;
        rig.eventually("the second one has a stream", async || {
            (streams() > Some(first_stream)).then_some(())
        })
        .await;
        let before = rig.registrations();
        first.terminate().unwrap();
        let is_cut = version < KubeletVersion::V1_37;
        if is_cut {
            // Without devices it is for a moment only.
            rig.until("it is cut and registers again", |view| view.accepted(GPU).count() > before)
                .await;
        }
        rig.until("the second one is watched", |view| view.allocatable(GPU) == 8).await;
        assert!(first.wait_exit(PATIENCE).await.unwrap().success());
        assert_eq!(rig.kubelet.view().allocatable(GPU), 8);
        if is_cut {
            rig.logged("the kubelet's ListAndWatch stream has ended").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_kubelet_socket_it_serves_in_the_default_directory_and_never_registers() {
    // A mount namespace of its own gives it a default directory of its own.
    const ALONE: &str = "mount -t tmpfs none /var/lib && mkdir -p /var/lib/kubelet/device-plugins \
        && exec \"$0\" --kubelet-socket=";
    let mut allowed = std::process::Command::new("unshare");
    allowed.args(["--user", "--map-root-user", "--mount", "sh", "-c", ALONE, "true"]);
    if !allowed.status().is_ok_and(|status| status.success()) {
        println!("not tested: this machine allows no namespace to have a default directory in");
        return;
    }
    let node = eight_h100s();
    let options = [
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        ALONE,
        env!("CARGO_BIN_EXE_gpu-device-plugin"),
    ]
    .into_iter()
    .fold(PluginOptions::new("unshare").bare(), PluginOptions::arg)
    .env("NVML_LIBRARY", node.nvml_library())
    .env("RUST_LOG", "debug");
    let http = |options: PluginOptions| {
        options.env("HTTP_ADDRESS", format!("unix:{}", node.root().join("http.sock").display()))
    };
    let status = http(plugin().bare());
    let mut plugin = Plugin::start(&node, &http(options)).unwrap();
    let (_, line) = plugin.wait_for_log("msg=\"serving\"", PATIENCE).await.unwrap();
    let socket = line.split("socket=").nth(1).unwrap().trim();
    assert!(socket.starts_with("/var/lib/kubelet/device-plugins/nvidia-gpu-"), "{line}");
    let seen_from_here = format!("/proc/{}/root{socket}", plugin.pid());
    let mut client = Kubelet::dial(seen_from_here).await.unwrap();
    let mut stream = client.list_and_watch(simnode::proto::Empty {}).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().devices.len(), 8);
    let status = crate::look::run(&node, &status, &["status"]).await;
    assert!(status.text.contains("--kubelet-socket is empty"), "{}", status.text);
    plugin.terminate().unwrap();
    assert!(plugin.wait_exit(PATIENCE).await.unwrap().success());
    assert!(!plugin.log().iter().any(|line| line.contains("registering")), "{:?}", plugin.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_inotify_it_warns_and_looks_instead() {
    // A user namespace of its own has a limit of its own; that of the machine is everybody's.
    const NONE: &str = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$0\"";
    let mut alone = std::process::Command::new("unshare");
    alone.args(["--user", "--map-root-user", "sh", "-c", NONE, "true"]);
    if !alone.status().is_ok_and(|status| status.success()) {
        println!("not tested: this machine allows no user namespace to take inotify away in");
        return;
    }
    let node = eight_h100s();
    let options =
        ["--user", "--map-root-user", "sh", "-c", NONE, env!("CARGO_BIN_EXE_gpu-device-plugin")]
            .into_iter()
            .fold(PluginOptions::new("unshare").bare(), PluginOptions::arg)
            .env("KUBELET_SOCKET", node.kubelet_socket())
            .env("NVML_LIBRARY", node.nvml_library());
    let config = node.kubelet();
    let rig = Rig::on(node, config, &options, 8).await;
    rig.logged("inotify is not available").await;
    let before = rig.plugin.cpu_ticks().unwrap();
    let began = std::time::Instant::now();
    for registrations in 2..6 {
        std::fs::remove_file(own_socket(&rig)).unwrap();
        let again =
            |view: &View| view.accepted(GPU).count() == registrations && view.allocatable(GPU) == 8;
        rig.until("registered again", again).await;
    }
    rig.kubelet.restart().await.unwrap();
    rig.until("the list in a new life", |view| view.life == 2 && view.allocatable(GPU) == 8).await;
    rig.assert_flawless();
    // A loop without a pause would take a whole core all that time.
    let busy = std::time::Duration::from_millis(10 * (rig.plugin.cpu_ticks().unwrap() - before));
    let elapsed = began.elapsed();
    assert!(busy < elapsed / 10, "busy for {busy:?} of {elapsed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_deleted_under_its_mount_ends_the_plugin() {
    let node = eight_h100s();
    let directory = std::fs::File::open(node.kubelet_directory()).unwrap();
    // A path through the open directory leads into it whatever becomes of its name, as a bind mount
    // does.
    let fd = std::os::fd::AsRawFd::as_raw_fd(&directory);
    let mounted = format!("/proc/{}/fd/{fd}/kubelet.sock", std::process::id());
    let options =
        plugin().bare().env("KUBELET_SOCKET", mounted).env("NVML_LIBRARY", node.nvml_library());
    let kubelet = kubelet(node.kubelet()).await;
    let mut plugin = Plugin::start(&node, &options).unwrap();
    kubelet.wait_allocatable(GPU, 8, PATIENCE).await.unwrap();
    kubelet.stop().await;
    remove_directory(&node.kubelet_directory());
    let status = plugin.wait_exit(PATIENCE).await.unwrap();
    assert_eq!(status.code(), Some(1), "{:?}", plugin.log());
    assert!(
        plugin.log().iter().any(|line| line.contains("was deleted on the host under our mount"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_deleted_and_created_again_is_watched_again() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    rig.kubelet.stop().await;
    remove_directory(&rig.node.kubelet_directory());
    rig.kubelet.start_again().await.unwrap();
    rig.until("the list in a new life", |view| view.life == 2 && view.allocatable(GPU) == 8).await;
    std::fs::remove_file(own_socket(&rig)).unwrap();
    rig.until("registered again", |view| view.life == 2 && view.of_this_life().count() == 2).await;
}
