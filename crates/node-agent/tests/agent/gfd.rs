//! Every flag and variable of GPU feature discovery 0.20 (cmd/gpu-feature-discovery/main.go) is
//! taken: those without effect with one warning that says why.

use std::collections::BTreeMap;

use crate::rig::{Rig, h200};

/// Flags, variables, a value, and how the warning begins that says why there is no effect.
type Row = (&'static [&'static str], &'static [&'static str], &'static str, Option<&'static str>);

const TABLE: &[Row] = &[
    (&["--mig-strategy"], &["GFD_MIG_STRATEGY", "MIG_STRATEGY"], "mixed", None),
    (
        &["--fail-on-init-error"],
        &["GFD_FAIL_ON_INIT_ERROR", "FAIL_ON_INIT_ERROR"],
        "true",
        Some("the agent waits for the plugin"),
    ),
    (&["--oneshot"], &["GFD_ONESHOT"], "true", None),
    (&["--no-timestamp"], &["GFD_NO_TIMESTAMP"], "true", None),
    (&["--sleep-interval"], &["GFD_SLEEP_INTERVAL"], "1m30s", None),
    (&["--sleep-interval"], &["GFD_SLEEP_INTERVAL"], "infinite", None),
    (&["--output-file", "--output", "-o"], &["GFD_OUTPUT_FILE"], "", None),
    (&["--machine-type-file"], &["GFD_MACHINE_TYPE_FILE"], "/dev/null", None),
    (
        &["--config-file"],
        &["GFD_CONFIG_FILE", "CONFIG_FILE"],
        "/config/config.yaml",
        Some("what labels say of MIG and sharing"),
    ),
    (
        &["--use-node-feature-api"],
        &["GFD_USE_NODE_FEATURE_API", "USE_NODE_FEATURE_API"],
        "false",
        None,
    ),
    (
        &["--device-discovery-strategy"],
        &["DEVICE_DISCOVERY_STRATEGY"],
        "auto",
        Some("the plugin finds the GPUs"),
    ),
    (
        &["--driver-root-ctr-path", "--container-driver-root"],
        &["DRIVER_ROOT_CTR_PATH", "CONTAINER_DRIVER_ROOT"],
        "/driver-root",
        Some("the plugin loads NVML"),
    ),
    (&["--kubeconfig"], &["KUBECONFIG"], "/etc/kubernetes/admin.conf", None),
    (&["--kube-api-qps"], &["KUBE_API_QPS"], "5", Some("each function has at most one request")),
    (
        &["--kube-api-burst"],
        &["KUBE_API_BURST"],
        "10",
        Some("each function has at most one request"),
    ),
    (&["--namespace"], &["NAMESPACE"], "gpu", None),
    (&["--node-name"], &["NODE_NAME"], "node-b", None),
    (&["--pod-name"], &["POD_NAME"], "gfd-x7k2p", None),
];

/// Labels are written to standard output once, with this beside it.
async fn labelled(rig: &Rig, flag: Option<String>, variable: Option<(&str, &str)>) -> Vec<String> {
    let mut variables =
        BTreeMap::from([("LABELS", "file"), ("GFD_OUTPUT_FILE", ""), ("GFD_ONESHOT", "true")]);
    variables.extend(variable);
    let arguments: Vec<&str> = flag.iter().map(String::as_str).collect();
    let agent = rig.agent_with(&variables, &arguments);
    let (status, lines) = agent.wait().await;
    let given = format!("{flag:?} {variable:?}: {lines:?}");
    assert!(status.success(), "{given}");
    assert!(lines.iter().any(|line| line == "nvidia.com/gpu.count=1"), "{given}");
    lines
}

#[tokio::test]
async fn every_flag_and_variable_of_gpu_feature_discovery_is_taken_or_told() {
    let rig = Rig::with(&[], h200()).await;
    for (flags, variables, value, why) in TABLE {
        let by_flag = flags.iter().map(|flag| (Some(format!("{flag}={value}")), None));
        let by_variable = variables.iter().map(|variable| (None, Some((*variable, *value))));
        for (flag, variable) in by_flag.chain(by_variable) {
            let given = format!("{flag:?} {variable:?}");
            let lines = labelled(&rig, flag, variable).await;
            let told: Vec<_> = lines.iter().filter(|line| line.contains(" WARN ")).collect();
            assert_eq!(told.len(), usize::from(why.is_some()), "{given}: {lines:?}");
            let says = |line: &&String| line.contains(flags[0]) && line.contains(why.unwrap());
            assert!(told.iter().all(says), "{given}: {told:?}");
        }
    }
}
