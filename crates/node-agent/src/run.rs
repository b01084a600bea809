//! The functions that are turned on, each on its own.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use status_stream::{View, follow};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use crate::api::ApiServer;
use crate::args::{Args, LabelOutput, ManagerArgs};
use crate::condition::{ConditionWriter, condition};
use crate::config::{NameFile, manage};
use crate::events::{Reporter, write_events};
use crate::keep::{Target, keep, write_once};
use crate::labels::{LabelSettings, Labeller, labels};
use crate::node_labels::{NodeLabelValues, follow_labels};
use crate::outputs::{FeatureFile, NodeFeature, NodeLabels, label_lines};
use crate::release::{PAUSED, RENEWAL, ReleaseFile};
use crate::summary::{SummaryPace, SummaryWriter};
use crate::taint::{TaintWriter, wants_taint};
use crate::turned_off::remove_turned_off;
use crate::without_effect::without_effect;

/// Runs for good; or with `--oneshot` until the labels are written. `is_set` tells whether an
/// environment variable is.
///
/// # Errors
/// The command line does not fit together: nothing is turned on, or the node has no name.
pub async fn run(args: &Args, is_set: impl Fn(&str) -> bool) -> Result<(), String> {
    let output = args.label_output();
    let has_condition = !args.node_condition.is_empty();
    let chooses = !args.config.config_name_file.is_empty();
    let releases = !args.config.release_file.is_empty();
    let has_taint = !args.node_taint.is_empty();
    let has_events = args.events || args.pod_events;
    let follows = chooses || releases;
    let asks = has_condition || has_taint || args.node_summary || has_events || follows;
    if output == LabelOutput::Off && !asks {
        return Err("nothing is turned on: --labels node|nodefeature|file, --node-condition, \
            --node-taint, --node-summary, --events, --pod-events, --config-name-file, \
            --release-file"
            .to_owned());
    }
    let needs_api = output != LabelOutput::File || asks;
    let node = if needs_api { args.node()?.to_owned() } else { String::new() };
    for (flag, why) in without_effect(args, is_set) {
        warn!(flag, why, "this flag has no effect here");
    }
    let api = Arc::new(ApiServer::new(args.gfd.kubeconfig.clone()));
    let (sender, view) = watch::channel(View::default());
    let following = follow(args.status_socket.clone(), sender);
    let labelling = write_labels(args, output, api.clone(), &node, view.clone())?;
    let interval = args.gfd.sleep_interval;
    let conditions = when(has_condition, async {
        let writer = ConditionWriter::new(api.clone(), &node, &args.node_condition);
        keep(writer, view.clone(), condition, interval).await;
    });
    let taints = when(has_taint, async {
        let writer = TaintWriter::new(api.clone(), &node, &args.node_taint);
        keep(writer, view.clone(), wants_taint, interval).await;
    });
    let summaries = when(args.node_summary, async {
        let pace = SummaryPace::default();
        let wanted = |view: &View| pace.wanted(view);
        keep(SummaryWriter::new(api.clone(), &node), view.clone(), wanted, interval).await;
    });
    let events = when(has_events, async {
        let (about_node, about_pods) = (args.events, args.pod_events);
        let instance = args.gfd.pod_name.clone();
        let reporter = Reporter { node: node.clone(), instance, about_node, about_pods };
        write_events(api.clone(), reporter, view.clone()).await;
    });
    let removing = async {
        remove_turned_off(args, api.clone(), &node).await;
        std::future::pending().await
    };
    let by_label = when(follows, follow_node(args, api.clone(), &node));
    tokio::select! {
        () = following => {}
        () = removing => {}
        () = by_label => {}
        // Ends with --oneshot alone.
        () = labelling => {}
        () = conditions => {}
        () = taints => {}
        () = summaries => {}
        () = events => {}
    }
    Ok(())
}

/// Runs a function that is turned on; one that is not never ends either.
async fn when(is_on: bool, function: impl Future<Output = ()>) {
    if is_on {
        function.await;
    } else {
        std::future::pending().await
    }
}

/// Keeps what labels of the Node say where the plugin reads it.
async fn follow_node(args: &Args, api: Arc<ApiServer>, node: &str) {
    let (sender, labels) = watch::channel(None);
    let config = &args.config;
    let name = |labels: &NodeLabelValues| Some(config.label(labels.as_deref()?));
    let release = |labels: &NodeLabelValues| {
        Some(labels.as_deref()?.get(&config.release_label).is_some_and(|value| value == PAUSED))
    };
    let naming = keep(NameFile::new(config), labels.clone(), name, args.gfd.sleep_interval);
    let file = ReleaseFile::new(config.release_file.clone().into());
    tokio::select! {
        () = follow_labels(api, node, sender) => {}
        () = when(!config.config_name_file.is_empty(), naming) => {}
        () = when(!config.release_file.is_empty(), keep(file, labels, release, RENEWAL)) => {}
    }
}

/// Does what NVIDIA's config manager does.
///
/// # Errors
/// The node has no name, or as of [`manage`].
pub async fn manage_config(args: &Args, manager: &ManagerArgs) -> Result<(), String> {
    let api = Arc::new(ApiServer::new(args.gfd.kubeconfig.clone()));
    let times = (args.gfd.oneshot || manager.manager_oneshot, args.gfd.sleep_interval);
    manage(api, args.node()?, &args.config, manager, times).await
}

/// Keeps the labels where they go, or writes them once.
fn write_labels<'a>(
    args: &'a Args,
    output: LabelOutput,
    api: Arc<ApiServer>,
    node: &'a str,
    view: watch::Receiver<View>,
) -> Result<impl Future<Output = ()> + 'a, String> {
    let labeller = Labeller::new(label_settings(args)?);
    Ok(async move {
        let gfd = &args.gfd;
        let features = |view: &View| labeller.features(view.status.as_deref()?);
        let labels = |view: &View| Some(features(view)?.labels);
        match output {
            LabelOutput::Off => std::future::pending().await,
            LabelOutput::Node => {
                let target = NodeLabels::new(api, node, args.labels_conflict);
                label(args, target, labels, view).await;
            }
            LabelOutput::NodeFeature => {
                label(args, NodeFeature::new(api, &gfd.namespace, node), features, view).await;
            }
            LabelOutput::File => {
                let file = FeatureFile::new(gfd.output_file.clone().into(), gfd.sleep_interval);
                label(args, file, labels, view).await;
            }
        }
    })
}

async fn label<T: Target>(
    args: &Args,
    target: T,
    wanted: impl Fn(&View) -> Option<T::Wanted>,
    view: watch::Receiver<View>,
) {
    if args.gfd.oneshot {
        write_once(target, view, wanted).await;
    } else {
        keep(target, view, wanted, args.gfd.sleep_interval).await;
    }
}

fn label_settings(args: &Args) -> Result<LabelSettings, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    args.label_settings(now.as_secs())
}

/// The labels of this node as text, as soon as the plugin knows them.
///
/// # Errors
/// It does not within so many seconds.
pub async fn print_labels(args: &Args, seconds: u64) -> Result<String, String> {
    let settings = label_settings(args)?;
    let (sender, mut view) = watch::channel(View::default());
    let known = view.wait_for(|view| {
        view.status.as_deref().is_some_and(|status| labels(status, &settings).is_some())
    });
    let known = async {
        tokio::select! {
            known = known => known.ok().and_then(|view| view.status.clone()),
            () = follow(args.status_socket.clone(), sender) => None,
        }
    };
    let status = timeout(Duration::from_secs(seconds), known).await.ok().flatten();
    let labels = status.and_then(|status| labels(&status, &settings));
    labels.map(|labels| label_lines(&labels)).ok_or_else(|| {
        let socket = args.status_socket.display();
        format!("the plugin at {socket} does not know the GPUs of this node within {seconds} s")
    })
}
