//! Completions, as kubectl asks for them.

use crate::rig::{Rig, node, summary};

#[tokio::test]
async fn the_last_word_is_completed() {
    let rig = Rig::new().await;
    rig.put(&node("node-a", Some(&summary(8, &[]))));
    let of = async |words: &[&str]| rig.run(&[&["__complete"], words].concat()).await.succeeded();
    assert_eq!(of(&[""]).await, "problems\ndoctor\nnode-a\n:4\n");
    assert_eq!(of(&["pro"]).await, "problems\n:4\n");
    assert_eq!(of(&["doctor", "n"]).await, "node-a\n:4\n");
    assert_eq!(of(&["--context", "a", "n"]).await, "node-a\n:4\n");
    assert_eq!(of(&["problems", ""]).await, ":4\n");
    assert_eq!(of(&["-o", ""]).await, "table\nwide\njson\nyaml\n:4\n");
    assert_eq!(of(&["--kubeconfig", ""]).await, ":0\n");
    assert_eq!(of(&["problems", "--sel"]).await, "--selector\n:4\n");
    // Without a cluster there are the commands.
    assert_eq!(of(&["--context", "none", ""]).await, "problems\ndoctor\n:4\n");
}
