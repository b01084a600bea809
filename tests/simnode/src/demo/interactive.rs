//! Commands from standard input, typed or piped.

use std::io::{self, BufRead};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use simnode::View;
use simnode::node::HttpAddress;
use tokio::sync::mpsc;

use super::screen::milliseconds;
use super::stage::Stage;
use super::{PATIENCE, story};

const HELP: &[(&str, &str)] = &[
    ("list", "the devices that the kubelet has"),
    ("allocate N [RESOURCE]", "admit a pod with N devices"),
    ("release POD", "end a pod"),
    ("xid GPU N", "the driver reports Xid N on a GPU"),
    ("lose GPU", "a GPU falls off the bus without a word"),
    ("restore GPU", "a GPU is as new"),
    ("restart-kubelet", "kill the kubelet and start it again"),
    ("delete-socket", "delete the plugin's socket"),
    ("log", "what the plugin has logged"),
    ("help", "this list"),
    ("quit", "stop the plugin; so does the end of the input"),
];

/// How long the plugin gets to serve its page.
const PAGE: Duration = Duration::from_secs(2);
/// How long a change of the kubelet's list is awaited after a command that may cause one.
const LOOK: Duration = Duration::from_secs(10);

/// Takes commands until `quit` or the end of the input, and returns how many have failed.
pub(super) async fn run(stage: &mut Stage) -> anyhow::Result<usize> {
    if stage.node.state().gpus.is_empty() {
        // Any line: before its first one the plugin may not be ready to be stopped.
        stage.plugin.wait_for_log("", PATIENCE).await?;
        stage.screen.note("This node has no GPUs.");
    } else {
        story::arrives(stage).await?;
    }
    // With an address of its own on the command line it may serve none.
    if let Ok(HttpAddress::Tcp(address)) = stage.plugin.http(PAGE).await {
        stage.screen.note(&format!("Look at it: http://{address}/"));
    }
    stage
        .screen
        .note(&format!("The node lives in {}. Commands: help", stage.node.root().display()));
    let mut lines = lines();
    let mut pods = 0;
    let mut failed = 0;
    loop {
        stage.screen.prompt();
        let Some(line) = lines.recv().await else { break };
        let words: Vec<&str> = line.split_whitespace().collect();
        if matches!(words[..], ["quit" | "exit"]) {
            break;
        }
        if let Err(error) = command(stage, &words, &mut pods).await {
            stage.screen.failure(&error);
            failed += 1;
        }
    }
    ensure!(stage.plugin.exited()?.is_none(), "the plugin has ended by itself");
    story::stops(stage).await?;
    story::kept_the_contract(stage)?;
    Ok(failed)
}

/// Standard input on a thread of its own, which nobody waits for: a read cannot be called off.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn command(stage: &mut Stage, words: &[&str], pods: &mut usize) -> anyhow::Result<()> {
    match *words {
        [] => {}
        ["list"] => {
            stage.show_devices(None);
            stage.show_totals();
            for held in stage.kubelet.pod_devices() {
                stage.screen.detail(&format!("{} holds {}", held.pod, held.id));
            }
        }
        ["allocate", count] => allocate(stage, count, &stage.largest_resource()?, pods).await?,
        ["allocate", count, resource] => allocate(stage, count, resource, pods).await?,
        ["release", pod] => {
            ensure!(
                stage.kubelet.pod_devices().iter().any(|held| held.pod == pod),
                "no pod {pod} holds a device"
            );
            stage.kubelet.release(pod);
        }
        ["xid", gpu, xid] => {
            let xid = xid.parse().with_context(|| format!("{xid} is no Xid"))?;
            let gpu = index(stage, gpu)?;
            look(stage, || stage.node.xid(gpu, xid)).await?;
        }
        ["lose", gpu] => {
            let gpu = index(stage, gpu)?;
            look(stage, || stage.node.lose(gpu)).await?;
        }
        ["restore", gpu] => {
            let gpu = index(stage, gpu)?;
            look(stage, || stage.node.restore(gpu)).await?;
        }
        ["restart-kubelet"] => {
            let (took, registrations) = stage.restart_kubelet().await?;
            stage.show_registrations(&registrations);
            stage.screen.detail(&format!("registered again, {}", milliseconds(took)));
        }
        ["delete-socket"] => {
            let (took, registrations) = stage.delete_sockets().await?;
            stage.show_registrations(&registrations);
            stage.screen.detail(&format!("registered again, {}", milliseconds(took)));
        }
        ["log"] => stage.plugin.log().iter().for_each(|line| stage.screen.log(line)),
        ["help"] => {
            for (command, meaning) in HELP {
                stage.screen.detail(&format!("{command:<22} {meaning}"));
            }
        }
        _ => bail!("no such command: {}; try help", words.join(" ")),
    }
    Ok(())
}

fn index(stage: &Stage, text: &str) -> anyhow::Result<usize> {
    let gpus = stage.node.state().gpus.len();
    let index = text.parse().ok().filter(|index| *index < gpus);
    index.with_context(|| format!("{text} is no GPU; there are {gpus}, from 0 on"))
}

async fn allocate(
    stage: &Stage,
    count: &str,
    resource: &str,
    pods: &mut usize,
) -> anyhow::Result<()> {
    let count = count
        .parse()
        .ok()
        .filter(|count| *count > 0)
        .with_context(|| format!("{count} is no number of devices"))?;
    let pod = format!("pod-{pods}");
    *pods += 1;
    let begun = Instant::now();
    let answer = stage.kubelet.allocate(&pod, "main", resource, count).await;
    let answer = answer
        .map_err(|error| anyhow::anyhow!("UnexpectedAdmissionError: {}", error.pod_message()))?;
    stage.screen.detail(&format!(
        "{pod} is admitted with {count} {resource}, {}",
        milliseconds(begun.elapsed())
    ));
    stage.show_answer(&answer);
    Ok(())
}

/// Does something to the node and shows what becomes of the kubelet's list.
async fn look(stage: &Stage, act: impl FnOnce() -> io::Result<()>) -> anyhow::Result<()> {
    let lists = |view: &View| -> u64 {
        view.resources.values().map(|resource| resource.lists_received).sum()
    };
    let before = lists(&stage.kubelet.view());
    let begun = Instant::now();
    act()?;
    let changed = stage.kubelet.wait_until("a new list", LOOK, |view| lists(view) > before).await;
    match changed {
        Ok(view) => {
            let listed = view.resources.values().filter_map(|resource| resource.last_list_at).max();
            let took = listed.map_or(Duration::ZERO, |at| at.saturating_duration_since(begun));
            stage.screen.detail(&format!("the kubelet has a new list, {}", milliseconds(took)));
            stage.show_totals();
        }
        Err(_) => stage
            .screen
            .detail(&format!("the kubelet's list did not change within {} s", LOOK.as_secs())),
    }
    Ok(())
}
