//! The plugin asks the kubelet which pod holds which device, and does not depend on the answer.

use std::time::{Duration, Instant};

use simnode::kubelet::{KubeletConfig, KubeletVersion, Trouble};
use simnode::node::Plugin;

use crate::health::{QUICK, configured};
use crate::rig::{GPU, Rig, eight_h100s, kubelet, plugin};

/// The shortest pause between two questions.
const GAP: Duration = Duration::from_secs(2);

impl Rig {
    /// Waits until podresources was asked once more than `before`.
    pub(crate) async fn asked_after(&self, before: usize) -> Vec<Instant> {
        let asked =
            || Some(self.kubelet.pod_resources_asked()).filter(|asked| asked.len() > before);
        self.eventually("podresources is asked", async || asked()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubelet_is_asked_at_the_start_and_soon_but_not_often_after_allocations() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    rig.asked_after(0).await;
    for pod in 0..4 {
        rig.kubelet.allocate(&format!("pod{pod}"), "main", GPU, 1).await.unwrap();
    }
    let asked = rig.asked_after(1).await;
    let pause = asked[1] - asked[0];
    // The plugin counts from before it looks for the socket, and the kubelet from when the call has
    // come.
    assert!(pause >= GAP - Duration::from_millis(500), "{pause:?}");
    assert!(
        pause < Duration::from_secs(9),
        "long before the next one without an allocation: {pause:?}"
    );
    assert!(rig.kubelet.pod_resources_asked().len() <= 3, "four allocations are one reason");
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_without_podresources_is_said_once_and_is_served() {
    let node = eight_h100s();
    let config = KubeletConfig::new(node.kubelet_directory());
    let rig = Rig::on(node, config, &plugin(), 8).await;
    let line = rig.logged("there is no podresources socket").await;
    assert!(line.contains("INFO"), "{line}");
    rig.kubelet.allocate("pod", "main", GPU, 2).await.unwrap();
    assert_eq!(rig.kubelet.view().allocatable(GPU), 8);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_answers_wrongly_is_said_and_nothing_is_lost() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    rig.asked_after(0).await;
    rig.kubelet.trouble_pod_resources(Trouble::Huge);
    for asked in 1..3 {
        rig.kubelet.allocate(&format!("pod{asked}"), "main", GPU, 1).await.unwrap();
        rig.asked_after(asked).await;
    }
    let line = rig.logged("cannot ask the kubelet which pod holds which device").await;
    assert!(line.contains("too large") && line.contains("16777216"), "{line}");
    rig.kubelet.trouble_pod_resources(Trouble::None);
    rig.kubelet.allocate("another", "main", GPU, 1).await.unwrap();
    rig.logged("the kubelet answers again which pod holds which device").await;
    assert_eq!(rig.kubelet.view().allocatable(GPU), 8);
    assert_eq!(rig.registrations(), 1);
    rig.assert_flawless();
}

/// The first list waits for the first answer, and not for one that never comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_never_answers_or_fails_holds_up_nothing() {
    let line = "cannot ask the kubelet which pod holds which device";
    for (trouble, text) in
        [(Trouble::Hangs, "was not answered within 5 s"), (Trouble::Fails, "it is so wanted")]
    {
        let node = eight_h100s();
        let kubelet = kubelet(node.kubelet()).await;
        kubelet.trouble_pod_resources(trouble);
        let plugin = Plugin::start(&node, &configured(&node, QUICK)).unwrap();
        let rig = Rig { kubelet, plugin, node };
        rig.until("the first list", |view| view.allocatable(GPU) == 8).await;
        let told = rig.logged(line).await;
        assert!(told.contains(text), "{trouble:?}: {told}");
        rig.kubelet.allocate("pod", "main", GPU, 2).await.unwrap();
        rig.xid_until_heard(6, 79).await;
        // Asked again and again, it is told once.
        let asked = rig.kubelet.pod_resources_asked().len();
        rig.kubelet.allocate("another", "main", GPU, 1).await.unwrap();
        rig.asked_after(asked).await;
        let lines = rig.plugin.log().iter().filter(|of| of.contains(line)).count();
        assert_eq!(lines, 1, "{trouble:?}: {}", rig.plugin.log().join("\n"));
        rig.kubelet.trouble_pod_resources(Trouble::None);
        rig.logged("the kubelet answers again which pod holds which device").await;
        assert_eq!(rig.registrations(), 1);
        rig.assert_flawless();
    }
}
