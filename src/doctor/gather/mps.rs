//! MPS control daemons.

use device::layout::sharing::Sharing;

use crate::config::Config;
use crate::mps;

/// The answer of the control daemon of each resource that MPS shares.
pub(super) async fn daemons(config: &Config) -> Vec<(String, Result<String, String>)> {
    let Sharing::Mps { replication, .. } = &config.layout.sharing else { return Vec::new() };
    let mut answers = Vec::new();
    for shared in &replication.resources {
        let answer = mps::ask(&shared.offered_as).await.map_err(|error| error.to_string());
        answers.push((shared.offered_as.to_string(), answer));
    }
    answers
}
