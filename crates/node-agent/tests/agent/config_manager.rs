//! The form of the program that stands for NVIDIA's config manager.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::Command;

use crate::config::{config_map, label};
use crate::rig::{Agent, Rig, h200, until};

async fn rig() -> (Rig, PathBuf) {
    let rig = Rig::with(&["watch nodes"], h200()).await;
    let directory = rig.path("available-configs");
    config_map(&directory, &["a", "b"]);
    fs::create_dir(rig.path("config")).unwrap();
    (rig, directory)
}

fn manager(rig: &Rig, more: &[&str]) -> Agent {
    let (source, link) = (rig.path("available-configs"), rig.path("config/config.yaml"));
    let [source, link] = [&source, &link].map(|path| path.to_str().unwrap());
    let fixed = ["config-manager", "--config-file-srcdir", source, "--config-file-dst", link];
    rig.agent(&[&fixed, more].concat())
}

async fn until_linked(rig: &Rig, target: PathBuf) {
    let link = rig.path("config/config.yaml");
    until("the link", || match fs::read_link(&link) {
        Ok(there) if there == target => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn once_it_links_what_the_label_default_or_fallback_chooses_and_ends() {
    let (rig, directory) = rig().await;
    label(&rig, Some("b"));
    let (status, lines) = manager(&rig, &["--oneshot", "--send-signal=false"]).wait().await;
    assert!(status.success(), "{lines:?}");
    until_linked(&rig, directory.join("b")).await;
    label(&rig, None);
    for (flags, target) in [
        (["--oneshot", "--default-config=a"], directory.join("a")),
        (["--oneshot", "--fallback-strategies=named,single,empty"], "/dev/null".into()),
    ] {
        let flags = [&flags[..], &["--send-signal=false"]].concat();
        let (status, lines) = manager(&rig, &flags).wait().await;
        assert!(status.success(), "{lines:?}");
        until_linked(&rig, target).await;
    }
    label(&rig, Some("absent"));
    let (status, lines) = manager(&rig, &["--oneshot"]).wait().await;
    assert_eq!(status.code(), Some(1));
    assert!(lines.concat().contains("\"absent\" is chosen"), "{lines:?}");
    assert!(lines.concat().contains("has: a, b"), "{lines:?}");
    until_linked(&rig, "/dev/null".into()).await;
}

#[tokio::test]
async fn it_follows_the_label_signals_the_program_and_goes_on_after_a_mistake() {
    let (rig, directory) = rig().await;
    label(&rig, Some("a"));
    let name = format!("program-{}", std::process::id());
    // Not SIGHUP: whoever runs this test by nohup has programs that ignore it.
    let flags = ["--process-to-signal", &name, "--signal=10", "--sleep-interval=1s"];
    let manager = manager(&rig, &flags);
    until_linked(&rig, directory.join("a")).await;
    manager.logged("the program that reads the configuration is not signalled").await;
    let mut program = Command::new("sleep").arg("600").arg0(&name).spawn().unwrap();
    // It has the name once it is another program than this one.
    until("the program", || {
        let command = fs::read(format!("/proc/{}/cmdline", program.id())).unwrap();
        if command.starts_with(name.as_bytes()) { Ok(()) } else { Err(format!("{command:?}")) }
    })
    .await;
    label(&rig, Some("absent"));
    manager.logged("\"absent\" is chosen").await;
    until_linked(&rig, directory.join("a")).await;
    label(&rig, Some("b"));
    until_linked(&rig, directory.join("b")).await;
    let status = until("the signal", || match program.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(status.signal(), Some(10));
}

#[tokio::test]
async fn under_its_own_name_it_needs_nothing_but_the_variables_of_nvidias_charts() {
    let (rig, directory) = rig().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-node-agent"));
    command
        .arg0("/usr/bin/config-manager")
        .env_clear()
        .env("KUBECONFIG", rig.path("kubeconfig"))
        .env("NODE_NAME", "node-a")
        .env("NODE_LABEL", "nvidia.com/device-plugin.config")
        .env("CONFIG_FILE_SRCDIR", &directory)
        .env("CONFIG_FILE_DST", rig.path("config/config.yaml"))
        .env("DEFAULT_CONFIG", "b")
        .env("FALLBACK_STRATEGIES", "")
        .env("SEND_SIGNAL", "false")
        .env("SIGNAL", "")
        .env("PROCESS_TO_SIGNAL", "")
        .env("ONESHOT", "true");
    let status = tokio::task::spawn_blocking(move || command.status()).await.unwrap().unwrap();
    assert!(status.success());
    until_linked(&rig, directory.join("b")).await;
}
