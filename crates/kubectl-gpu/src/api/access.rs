//! How the API server is reached: kubectl's flags, `$KUBECONFIG`, `~/.kube/config`, or the service
//! account of a pod.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::error::chain;
use crate::args::AccessFlags;

/// The access that the flags ask for, and the files that $KUBECONFIG names.
pub(super) async fn config(flags: &AccessFlags, files: &[PathBuf]) -> Result<Config, String> {
    let mut config = match (kubeconfig(flags, files)?, server(flags)?) {
        (Some(kubeconfig), server) => {
            let options = KubeConfigOptions {
                context: flags.context.clone(),
                cluster: flags.cluster.clone(),
                user: flags.user.clone(),
            };
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            let mut config =
                config.map_err(|error| format!("the kubeconfig: {}", chain(&error)))?;
            config.cluster_url = server.unwrap_or(config.cluster_url);
            config
        }
        (None, Some(server)) => Config::new(server),
        (None, None) => Config::incluster().map_err(|_| {
            "there is no kubeconfig: name one with --kubeconfig or $KUBECONFIG, or make \
             ~/.kube/config as kubectl has it"
                .to_owned()
        })?,
    };
    if let Some(user) = &flags.impersonate {
        config.auth_info.impersonate = Some(user.clone());
    }
    if !flags.impersonate_groups.is_empty() {
        if flags.impersonate.is_none() {
            return Err("--as-group needs --as".to_owned());
        }
        config.auth_info.impersonate_groups = Some(flags.impersonate_groups.clone());
    }
    Ok(config)
}

fn server(flags: &AccessFlags) -> Result<Option<hyper::Uri>, String> {
    let Some(server) = &flags.server else { return Ok(None) };
    let url = server.parse().map_err(|error| format!("--server {server}: {error}"));
    url.map(Some)
}

/// The kubeconfig; `None`: there is none, and nobody named one.
fn kubeconfig(flags: &AccessFlags, files: &[PathBuf]) -> Result<Option<Kubeconfig>, String> {
    match (&flags.kubeconfig, files) {
        (Some(path), _) => read(path).map(Some),
        (None, []) => match Kubeconfig::read() {
            Ok(kubeconfig) => Ok(Some(kubeconfig)),
            Err(KubeconfigError::FindPath) => Ok(None),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(chain(&error)),
        },
        (None, files) => merged(files).map(Some),
    }
}

/// Several files as one. As kubectl does, it passes over a file that is not there.
fn merged(files: &[PathBuf]) -> Result<Kubeconfig, String> {
    let mut merged: Option<Kubeconfig> = None;
    for path in files {
        let next = match Kubeconfig::read_from(path) {
            Err(error) if is_missing(&error) => continue,
            next => next.map_err(|error| of_file(path, &error))?,
        };
        let before = merged.unwrap_or_default();
        merged = Some(before.merge(next).map_err(|error| of_file(path, &error))?);
    }
    let names = || files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    merged.ok_or_else(|| format!("$KUBECONFIG names {}: not there", names().join(", ")))
}

fn read(path: &Path) -> Result<Kubeconfig, String> {
    Kubeconfig::read_from(path).map_err(|error| of_file(path, &error))
}

fn of_file(path: &Path, error: &KubeconfigError) -> String {
    let (path, why) = (path.display().to_string(), chain(error));
    if why.contains(&path) { why } else { format!("{path}: {why}") }
}

fn is_missing(error: &KubeconfigError) -> bool {
    matches!(error, KubeconfigError::ReadConfig(error, _) if error.kind() == ErrorKind::NotFound)
}
