//! What somebody can do who has taken the node agent over: its user and group, its sockets and its
//! directory.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use simnode::node::HttpAddress;

use crate::dropin::{SLICED, rig};
use crate::rig::{GPU, Rig, eight_h100s, install, plugin};

/// Its user and its group.
const AGENT: u32 = 65532;

/// Runs a command as that user, without any capability: the plugin's own program, or a shell.
fn as_agent(command: &mut Command) -> Output {
    command.uid(AGENT).gid(AGENT).output().unwrap()
}

fn shell(script: &str, path: &Path) -> Output {
    as_agent(Command::new("sh").arg("-c").arg(script).arg("sh").arg(path))
}

/// A node whose directories this user can go through, with two configurations.
async fn taken_over() -> Rig {
    let node = eight_h100s();
    fs::set_permissions(node.root(), Permissions::from_mode(0o755)).unwrap();
    for (name, text) in [("whole", "version: v1"), ("shared", SLICED)] {
        fs::create_dir_all(node.root().join("configs")).unwrap();
        fs::write(node.root().join("configs").join(name), text).unwrap();
    }
    // Root's alone; the plugin could read it.
    fs::write(node.root().join("secret"), SLICED).unwrap();
    fs::set_permissions(node.root().join("secret"), Permissions::from_mode(0o600)).unwrap();
    let own = node.root().join("agent");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, Permissions::from_mode(0o777)).unwrap();
    let options = plugin()
        .env("STATUS_SOCKET_GID", AGENT.to_string())
        .env("CONFIG_FILE", node.root().join("configs/whole"))
        .env("CONFIG_DIR", node.root().join("configs"))
        .env("CONFIG_NAME_FILE", own.join("config-name"));
    let rig = rig(node, &options, GPU, 8).await;
    rig.logged("serving the status socket").await;
    rig
}

/// The tests need another user to run as; with no other, nothing can be shown.
fn can_change_user() -> bool {
    let can = rustix::process::geteuid().is_root();
    if !can {
        eprintln!("SKIPPED: only root can take the part of another user");
    }
    can
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_user_reads_the_status_and_changes_no_gpu_and_no_file() {
    if !can_change_user() {
        return;
    }
    let rig = taken_over().await;
    let state = rig.node.state_directory();
    // That of the build may be in a directory of root's alone.
    let program = rig.node.root().join("program");
    install(Path::new(env!("CARGO_BIN_EXE_gpu-device-plugin")), &program);
    let run = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.env_clear().env("HTTP_ADDRESS", "").env("STATE_DIR", &state).args(words);
        as_agent(&mut command)
    };
    assert!(run(&["status"]).status.success(), "it reads the status: {:?}", run(&["status"]));
    for words in [&["release"][..], &["take-up"], &["clear", "0"]] {
        let said = run(words);
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(!said.status.success() && text.contains("only root may open the socket"), "{text}");
    }
    let quarantine = rig.node.quarantine_directory();
    fs::create_dir_all(&quarantine).unwrap();
    for (script, path) in [
        ("echo > \"$1/0\"", quarantine.as_path()),
        ("echo > \"$1/health.json\"", &state),
        ("rm -f \"$1/status.sock\" && test ! -e \"$1/status.sock\"", &state),
        ("mv \"$1/control.sock\" \"$1/other\"", &state),
        ("cat \"$1/config-name\" \"$1/health.json\"", &state),
        ("echo 'version: v1' > \"$1/configs/shared\"", rig.node.root()),
        ("echo > \"$1/configs/new\"", rig.node.root()),
        ("cat \"$1/secret\"", rig.node.root()),
    ] {
        let said = shell(script, path);
        assert!(!said.status.success(), "{script}: {said:?}");
    }
    let socket = HttpAddress::Unix(state.join("status.sock"));
    for path in ["/release", "/let-go"] {
        assert_eq!(socket.get(path).await.unwrap().status, 410, "{path}");
    }
    let status: serde_json::Value =
        serde_json::from_str(&socket.get("/status").await.unwrap().body).unwrap();
    let gpus = status["gpus"].as_array().unwrap();
    assert!(gpus.iter().all(|gpu| gpu["healthy"] == true), "{status:#}");
    assert_eq!(rig.kubelet.view().allocatable(GPU), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_user_chooses_among_the_configurations_and_gets_nothing_else_read() {
    if !can_change_user() {
        return;
    }
    let rig = taken_over().await;
    let own = rig.node.root().join("agent");
    for script in [
        "echo ../secret > \"$1/config-name\"",
        "rm -f \"$1/config-name\"; ln -s ../secret \"$1/config-name\"",
        "rm -f \"$1/config-name\"; mkfifo \"$1/config-name\"",
        "rm -f \"$1/config-name\"; mkdir \"$1/config-name\"",
        "rmdir \"$1/config-name\"; head -c 100000 /dev/zero > \"$1/config-name\"",
    ] {
        let seen = rig.plugin.log().len();
        let said = shell(script, &own);
        assert!(said.status.success(), "{script}: {said:?}");
        let refused = "the config file is refused, the configuration before stays in force";
        let told = rig.plugin.wait_for_log_after(seen, refused, crate::rig::PATIENCE).await;
        let (_, line) = told.unwrap();
        assert!(!line.contains("timeSlicing"), "nothing of a content is told: {line}");
    }
    assert_eq!(rig.kubelet.view().allocatable(GPU), 8);
    assert_eq!(rig.kubelet.view().resource(GPU).unwrap().lists_received, 1);
    let said = shell("rm -f \"$1/config-name\"; echo shared > \"$1/config-name\"", &own);
    assert!(said.status.success(), "{said:?}");
    rig.until("one of the two", |view| view.allocatable(GPU) == 32).await;
    rig.assert_flawless();
}
