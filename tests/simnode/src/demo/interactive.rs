//! Commands from standard input, typed or piped.

use std::io::{self, BufRead};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use fake_nvml::state::Rule;
use simnode::View;
use simnode::node::HttpAddress;
use tokio::sync::mpsc;

use super::screen::milliseconds;
use super::setup::Setup;
use super::{PATIENCE, scenario};

const HELP: &[(&str, &str)] = &[
    ("list", "the devices that the kubelet has"),
    ("allocate N [RESOURCE]", "admit a pod with N devices"),
    ("release POD", "end a pod"),
    ("xid GPU N", "the driver reports Xid N on a GPU"),
    ("lose GPU", "a GPU falls off the bus without an Xid"),
    ("restore GPU", "a GPU is as new"),
    ("rule GPU JSON", "calls on a GPU (or `node`) go wrong, as tests/fake-nvml/README.md says"),
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
pub(super) async fn run(setup: &mut Setup) -> anyhow::Result<usize> {
    if setup.node.state().gpus.is_empty() {
        // Any line: before its first one the plugin may not be ready to be stopped.
        setup.plugin.wait_for_log("", PATIENCE).await?;
        setup.screen.note("This node has no GPUs.");
    } else {
        scenario::arrives(setup).await?;
    }
    // With an address of its own on the command line it may serve none.
    if let Ok(HttpAddress::Tcp(address)) = setup.plugin.http(PAGE).await {
        setup.screen.note(&format!("Look at it: http://{address}/"));
    }
    setup
        .screen
        .note(&format!("The node lives in {}. Commands: help", setup.node.root().display()));
    let mut lines = lines();
    let mut pods = 0;
    let mut failed = 0;
    loop {
        setup.screen.prompt();
        let Some(line) = lines.recv().await else { break };
        let words: Vec<&str> = line.split_whitespace().collect();
        if matches!(words[..], ["quit" | "exit"]) {
            break;
        }
        if let Err(error) = command(setup, &words, &mut pods).await {
            setup.screen.failure(&error);
            failed += 1;
        }
    }
    ensure!(setup.plugin.exited()?.is_none(), "the plugin has ended by itself");
    scenario::stops(setup).await?;
    scenario::kept_the_contract(setup)?;
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

async fn command(setup: &mut Setup, words: &[&str], pods: &mut usize) -> anyhow::Result<()> {
    match *words {
        [] => {}
        ["list"] => {
            setup.show_devices(None);
            setup.show_totals();
            for held in setup.kubelet.pod_devices() {
                setup.screen.detail(&format!("{} holds {}", held.pod, held.id));
            }
        }
        ["allocate", count] => allocate(setup, count, &setup.largest_resource()?, pods).await?,
        ["allocate", count, resource] => allocate(setup, count, resource, pods).await?,
        ["release", pod] => {
            ensure!(
                setup.kubelet.pod_devices().iter().any(|held| held.pod == pod),
                "no pod {pod} holds a device"
            );
            setup.kubelet.release(pod);
        }
        ["xid", gpu, xid] => {
            let xid = xid.parse().with_context(|| format!("{xid} is no Xid"))?;
            let gpu = index(setup, gpu)?;
            look(setup, || setup.node.xid(gpu, xid)).await?;
        }
        ["lose", gpu] => {
            let gpu = index(setup, gpu)?;
            look(setup, || setup.node.lose(gpu)).await?;
        }
        ["restore", gpu] => {
            let gpu = index(setup, gpu)?;
            look(setup, || setup.node.restore(gpu)).await?;
        }
        ["rule", gpu, ..] => {
            let rule = serde_json::from_str(&words[2..].join(" ")).context("no rule")?;
            look(setup, || add_rule(setup, gpu, rule)).await?;
        }
        ["restart-kubelet"] => {
            let (took, registrations) = setup.restart_kubelet().await?;
            setup.show_registrations(&registrations);
            setup.screen.detail(&format!("registered again, {}", milliseconds(took)));
        }
        ["delete-socket"] => {
            let (took, registrations) = setup.delete_sockets().await?;
            setup.show_registrations(&registrations);
            setup.screen.detail(&format!("registered again, {}", milliseconds(took)));
        }
        ["log"] => setup.plugin.log().iter().for_each(|line| setup.screen.log(line)),
        ["help"] => {
            for (command, meaning) in HELP {
                setup.screen.detail(&format!("{command:<22} {meaning}"));
            }
        }
        _ => bail!("no such command: {}; try help", words.join(" ")),
    }
    Ok(())
}

/// Adds a rule to a GPU's, or to the node's.
fn add_rule(setup: &Setup, gpu: &str, rule: Rule) -> io::Result<()> {
    match gpu {
        "node" => setup.node.edit(|state| state.rules.push(rule)),
        _ => {
            let gpu = index(setup, gpu).map_err(io::Error::other)?;
            setup.node.edit_gpu(gpu, |gpu| gpu.rules.push(rule))
        }
    }
}

fn index(setup: &Setup, text: &str) -> anyhow::Result<usize> {
    let gpus = setup.node.state().gpus.len();
    let index = text.parse().ok().filter(|index| *index < gpus);
    index.with_context(|| format!("{text} is no GPU; there are {gpus}, from 0 on"))
}

async fn allocate(
    setup: &Setup,
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
    let answer = setup.kubelet.allocate(&pod, "main", resource, count).await;
    let answer = answer
        .map_err(|error| anyhow::anyhow!("UnexpectedAdmissionError: {}", error.pod_message()))?;
    setup.screen.detail(&format!(
        "{pod} is admitted with {count} {resource}, {}",
        milliseconds(begun.elapsed())
    ));
    setup.show_answer(&answer);
    Ok(())
}

/// Does something to the node and shows what becomes of the kubelet's list.
async fn look(setup: &Setup, act: impl FnOnce() -> io::Result<()>) -> anyhow::Result<()> {
    let lists = |view: &View| -> u64 {
        view.resources.values().map(|resource| resource.lists_received).sum()
    };
    let before = lists(&setup.kubelet.view());
    let begun = Instant::now();
    act()?;
    let changed = setup.kubelet.wait_until("a new list", LOOK, |view| lists(view) > before).await;
    match changed {
        Ok(view) => {
            let listed = view.resources.values().filter_map(|resource| resource.last_list_at).max();
            let took = listed.map_or(Duration::ZERO, |at| at.saturating_duration_since(begun));
            setup.screen.detail(&format!("the kubelet has a new list, {}", milliseconds(took)));
            setup.show_totals();
        }
        Err(_) => setup
            .screen
            .detail(&format!("the kubelet's list did not change within {} s", LOOK.as_secs())),
    }
    Ok(())
}
