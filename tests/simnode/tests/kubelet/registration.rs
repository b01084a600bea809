//! What a Register call must say, and what the kubelet does before it answers.

use std::os::unix::net::UnixListener as SilentListener;
use std::time::{Duration, Instant};

use simnode::kubelet::{Kubelet, KubeletVersion, Limits, Method, Outcome, ViolationKind};
use simnode::proto::{DevicePluginOptions, RegisterRequest};
use tokio::sync::watch;
use tonic::{Code, Status};

use crate::support::{self, Behaviour, GPU, SOON, TestPlugin, kubelet, limited};

async fn refused(version: &str, resource: &str) -> (Status, Kubelet) {
    let home = kubelet(KubeletVersion::V1_36).await;
    let behaviour = Behaviour {
        version: version.to_owned(),
        resource: resource.to_owned(),
        ..Behaviour::default()
    };
    let plugin = TestPlugin::serve(&home.kubelet, "a.sock", behaviour);
    let error = plugin.register().await.expect_err("refused");
    assert!(plugin.authorities().is_empty(), "the plugin was not dialled");
    (error, home.kubelet)
}

#[tokio::test]
async fn another_version_is_refused_in_the_kubelets_words() {
    let (error, kubelet) = refused("v1beta2", GPU).await;
    assert_eq!(error.code(), Code::Unknown);
    let text = concat!(
        r#"requested API version "v1beta2" is not supported by kubelet. "#,
        r#"Supported version is ["v1beta1"]"#
    );
    assert_eq!(error.message(), text);
    assert_eq!(kubelet.view().registrations[0].outcome, Outcome::Refused(text.to_owned()));
}

#[tokio::test]
async fn a_name_that_is_no_extended_resource_is_refused() {
    let (error, kubelet) = refused("v1beta1", "gpu").await;
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unknown, r#"the ResourceName "gpu" is invalid"#)
    );
    assert!(kubelet.view().resources.is_empty());
}

#[tokio::test]
async fn the_version_is_checked_before_the_name() {
    let (error, _) = refused("", "gpu").await;
    assert!(error.message().starts_with("requested API version"), "{error}");
}

#[tokio::test]
async fn every_call_of_the_kubelet_has_the_authority_localhost() {
    let home = kubelet(KubeletVersion::V1_36).await;
    let plugin = TestPlugin::start(
        &home.kubelet,
        "a.sock",
        Behaviour::default().preferring().pre_starting(),
    )
    .await;
    home.kubelet.wait_allocatable(GPU, 4, SOON).await.expect("listed");
    home.kubelet.allocate("pod", "main", GPU, 1).await.expect("allocated");
    home.kubelet.start_container("pod", "main").await.expect("started");
    let mut client = home.kubelet.client(GPU).await.expect("dialled");
    client.get_device_plugin_options(simnode::proto::Empty {}).await.expect("answered");
    // Options, ListAndWatch, GetPreferredAllocation, Allocate, PreStartContainer, and the test's
    // own call.
    assert_eq!(plugin.authorities(), ["localhost"; 6]);
}

/// Registers a socket that is not there.
async fn register_nobody(kubelet: &Kubelet, resource: &str) -> Result<(), Status> {
    let request = RegisterRequest {
        version: "v1beta1".to_owned(),
        endpoint: "nobody.sock".to_owned(),
        resource_name: resource.to_owned(),
        options: None,
    };
    support::register(kubelet.socket(), request).await
}

#[tokio::test]
async fn a_plugin_that_does_not_serve_yet_is_refused_when_the_dial_limit_is_over() {
    let home =
        limited(KubeletVersion::V1_36, |limits| limits.dial = Duration::from_millis(200)).await;
    let begun = Instant::now();
    let error = register_nobody(&home.kubelet, GPU).await.expect_err("refused");
    assert_eq!(error.message(), "failed to dial device plugin: context deadline exceeded");
    assert!(
        begun.elapsed() >= Duration::from_millis(200),
        "the whole limit: {:?}",
        begun.elapsed()
    );
    assert_eq!(Limits::default().dial, Duration::from_secs(10));
    assert!(home.kubelet.view().resources.is_empty());
}

#[tokio::test]
async fn a_refused_socket_can_be_registered_when_it_serves() {
    for version in [KubeletVersion::V1_36, KubeletVersion::V1_37] {
        let home = limited(version, |limits| limits.dial = Duration::from_secs(1)).await;
        register_nobody(&home.kubelet, GPU).await.expect_err("refused");
        let _plugin = TestPlugin::start(&home.kubelet, "nobody.sock", Behaviour::default()).await;
        home.kubelet.wait_allocatable(GPU, 4, SOON).await.expect("listed");
        assert_eq!(home.kubelet.violations(), []);
    }
}

#[tokio::test]
async fn a_listener_that_does_not_speak_http2_is_refused() {
    let home =
        limited(KubeletVersion::V1_36, |limits| limits.dial = Duration::from_millis(200)).await;
    let _silent =
        SilentListener::bind(home.kubelet.directory().join("silent.sock")).expect("bound");
    let request = RegisterRequest {
        version: "v1beta1".to_owned(),
        endpoint: "silent.sock".to_owned(),
        resource_name: GPU.to_owned(),
        options: None,
    };
    let error = support::register(home.kubelet.socket(), request).await.expect_err("refused");
    assert_eq!(error.message(), "failed to dial device plugin: context deadline exceeded");
}

#[tokio::test]
async fn the_dial_is_repeated_within_the_limit() {
    let home = limited(KubeletVersion::V1_36, |limits| limits.dial = Duration::from_secs(5)).await;
    let request = RegisterRequest {
        version: "v1beta1".to_owned(),
        endpoint: "late.sock".to_owned(),
        resource_name: GPU.to_owned(),
        options: None,
    };
    let registering = tokio::spawn(support::register(home.kubelet.socket(), request));
    home.kubelet
        .wait_until("Register was received", SOON, |view| !view.registrations.is_empty())
        .await
        .expect("so");
    let _plugin = TestPlugin::serve(&home.kubelet, "late.sock", Behaviour::default());
    registering.await.expect("no panic").expect("registered");
}

#[tokio::test]
async fn the_options_have_no_limit_of_their_own() {
    let home = limited(KubeletVersion::V1_36, |limits| limits.dial = Duration::from_secs(1)).await;
    let (gate, options_gate) = watch::channel(false);
    let plugin = TestPlugin::serve(
        &home.kubelet,
        "a.sock",
        Behaviour { options_gate, ..Behaviour::default() },
    );
    let open = async {
        while plugin.authorities().is_empty() {
            tokio::task::yield_now().await;
        }
        // The dial limit passes for another plugin in the meantime.
        register_nobody(&home.kubelet, "nvidia.com/other").await.expect_err("refused");
        assert_eq!(home.kubelet.view().registrations[0].outcome, Outcome::Pending);
        gate.send_replace(true);
    };
    let (registered, ()) = tokio::join!(plugin.register(), open);
    registered.expect("registered");
}

#[tokio::test]
async fn a_plugin_without_options_never_gets_a_stream() {
    let home = kubelet(KubeletVersion::V1_36).await;
    let options = Err(Status::internal("no options today"));
    let plugin =
        TestPlugin::serve(&home.kubelet, "a.sock", Behaviour { options, ..Behaviour::default() });
    let error = plugin.register().await.expect_err("refused");
    assert_eq!(error.code(), Code::Unknown);
    let text =
        "failed to get device plugin options: rpc error: code = Internal desc = no options today";
    assert_eq!(error.message(), text);
    assert!(home.kubelet.view().resources.is_empty());
    assert_eq!(plugin.streams_opened(), 0);
}

#[tokio::test]
async fn only_the_options_asked_for_count() {
    let home = kubelet(KubeletVersion::V1_36).await;
    let registered_options = Some(DevicePluginOptions {
        get_preferred_allocation_available: true,
        ..Default::default()
    });
    let behaviour = Behaviour { registered_options, ..Behaviour::default() };
    let _plugin = TestPlugin::start(&home.kubelet, "a.sock", behaviour).await;
    home.kubelet.wait_allocatable(GPU, 4, SOON).await.expect("listed");
    home.kubelet.allocate("pod", "main", GPU, 1).await.expect("allocated");
    let methods: Vec<Method> = home.kubelet.calls().iter().map(|call| call.method).collect();
    assert_eq!(methods, [Method::Options, Method::Allocate]);
    assert_eq!(home.kubelet.violations()[0].kind, ViolationKind::OptionsDiffer);
}

/// Registers, and gives up while the kubelet waits for the options; answers how the kubelet took
/// it.
async fn given_up(version: KubeletVersion) -> Outcome {
    let home = kubelet(version).await;
    let (gate, options_gate) = watch::channel(false);
    let plugin = TestPlugin::serve(
        &home.kubelet,
        "a.sock",
        Behaviour { options_gate, ..Behaviour::default() },
    );
    tokio::select! {
        registered = plugin.register() => panic!("answered: {registered:?}"),
        () = async {
            while plugin.authorities().is_empty() {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    // Before 1.36 the kubelet goes on to wait, so the gate is opened; from then on it must not be
    // needed.
    if version == KubeletVersion::V1_32 {
        gate.send_replace(true);
    }
    let done = home.kubelet.wait_until("the registration is over", SOON, |view| {
        view.registrations[0].outcome != Outcome::Pending
    });
    done.await.expect("over").registrations[0].outcome.clone()
}

#[tokio::test]
async fn a_plugin_that_gives_up_cancels_its_registration_from_1_36_on() {
    let text =
        "failed to get device plugin options: rpc error: code = Canceled desc = context canceled";
    assert_eq!(given_up(KubeletVersion::V1_36).await, Outcome::Refused(text.to_owned()));
}

#[tokio::test]
async fn a_plugin_that_gives_up_is_registered_all_the_same_before_1_36() {
    assert_eq!(given_up(KubeletVersion::V1_32).await, Outcome::Accepted);
}

#[tokio::test]
async fn an_endpoint_that_is_a_path_is_accepted_and_noted() {
    let home = kubelet(KubeletVersion::V1_36).await;
    let mut plugin = TestPlugin::serve(&home.kubelet, "a.sock", Behaviour::default());
    plugin.endpoint = "/x/../a.sock".to_owned();
    plugin.register().await.expect("registered");
    let kinds: Vec<ViolationKind> =
        home.kubelet.violations().iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, [ViolationKind::EndpointNotAFileName]);
}

#[tokio::test]
async fn a_conforming_plugin_leaves_no_violation() {
    let home = kubelet(KubeletVersion::V1_36).await;
    let plugin = TestPlugin::start(
        &home.kubelet,
        "a.sock",
        Behaviour::default().preferring().pre_starting(),
    )
    .await;
    home.kubelet.wait_allocatable(GPU, 4, SOON).await.expect("listed");
    home.kubelet.allocate("pod", "main", GPU, 2).await.expect("allocated");
    home.kubelet.start_container("pod", "main").await.expect("started");
    plugin.stop().await;
    home.kubelet.wait_allocatable(GPU, 0, SOON).await.expect("the stream has ended");
    let _plugin = TestPlugin::start(&home.kubelet, "b.sock", Behaviour::default()).await;
    home.kubelet.wait_allocatable(GPU, 4, SOON).await.expect("listed again");
    assert_eq!(home.kubelet.violations(), []);
}
