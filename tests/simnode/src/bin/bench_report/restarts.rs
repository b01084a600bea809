//! Restarts of the kubelet.

use std::time::Instant;

use anyhow::Context;
use simnode::kubelet::View;

use super::GPU;
use super::args::Args;
use super::bench::Bench;
use super::times::Times;

/// From a new kubelet.sock to the registration, and to the list.
pub(super) async fn kubelet_restarts(args: &Args) -> anyhow::Result<()> {
    let bench = Bench::start(args, |_, options| options).await?;
    let (mut registered, mut list) = (Times::new(), Times::new());
    for life in 2..=args.restarts as u64 + 1 {
        bench.kubelet.stop().await;
        let before = Instant::now();
        bench.kubelet.start_again().await?;
        let answered = |view: &View| view.of_this_life().any(|call| call.answered.is_some());
        let ready = |view: &View| view.life == life && view.allocatable(GPU) == 8 && answered(view);
        let view = bench.until("the list in a new life", ready).await?;
        let answered = view.of_this_life().filter_map(|call| call.answered).last();
        registered.add(answered.context("a registration")? - before);
        let received =
            view.resource(GPU).and_then(|resource| resource.last_list_at).context("a list")?;
        list.add(received - before);
    }
    registered.print("kubelet starts again (its clean-up included) to registered");
    list.print("kubelet starts again to its list");
    Ok(())
}
