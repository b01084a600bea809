//! Flags that are taken and have no effect, most of them of GPU feature discovery.

use crate::args::{Args, LabelOutput};
use crate::labels::Extra;

/// A flag that was given and has no effect, and why.
pub(crate) type WithoutEffect = (&'static str, &'static str);

/// The flags that were given, or of which a variable is set, and that have no effect.
pub(crate) fn without_effect(args: &Args, is_set: impl Fn(&str) -> bool) -> Vec<WithoutEffect> {
    let gfd = &args.gfd;
    let mut found = Vec::new();
    // That program reads two variables for some; those of the flags here are the others.
    for (value, second, flag, why) in [
        (
            &gfd.fail_on_init_error,
            "GFD_FAIL_ON_INIT_ERROR",
            "--fail-on-init-error",
            "the agent waits for the plugin and retries for good",
        ),
        (
            &gfd.config_file,
            "GFD_CONFIG_FILE",
            "--config-file",
            "what labels say of MIG and sharing is as the plugin is configured",
        ),
        (
            &gfd.device_discovery_strategy,
            "",
            "--device-discovery-strategy",
            "the plugin finds the GPUs",
        ),
        (
            &gfd.driver_root_ctr_path,
            "CONTAINER_DRIVER_ROOT",
            "--driver-root-ctr-path",
            "the plugin loads NVML, and the agent does not",
        ),
        (
            &gfd.kube_api_qps,
            "",
            "--kube-api-qps",
            "each function has at most one request at a time",
        ),
        (
            &gfd.kube_api_burst,
            "",
            "--kube-api-burst",
            "each function has at most one request at a time",
        ),
    ] {
        if value.is_some() || (!second.is_empty() && is_set(second)) {
            found.push((flag, why));
        }
    }
    let describes = args.extra_labels.0.contains(&Extra::Instances);
    if describes && args.label_output() != LabelOutput::NodeFeature {
        found.push((
            "--extra-labels=instances",
            "only a NodeFeature object has them: --labels nodefeature",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn parsed(words: &[&str]) -> Args {
        Args::try_parse_from(["gpu-node-agent"].iter().chain(words)).unwrap()
    }

    #[test]
    fn flags_without_effect_are_told_once_each_also_by_a_second_variable() {
        let flags = [
            ("--fail-on-init-error=false", "GFD_FAIL_ON_INIT_ERROR"),
            ("--config-file=/c", "GFD_CONFIG_FILE"),
            ("--device-discovery-strategy=auto", ""),
            ("--driver-root-ctr-path=/d", "CONTAINER_DRIVER_ROOT"),
            ("--container-driver-root=/d", "CONTAINER_DRIVER_ROOT"),
            ("--kube-api-qps=5", ""),
            ("--kube-api-burst=9", ""),
        ];
        for (flag, variable) in flags {
            let by_flag = without_effect(&parsed(&[flag]), |name| name == variable);
            assert_eq!(by_flag.len(), 1, "{flag}: {by_flag:?}");
            let by_variable = without_effect(&parsed(&[]), |name| name == variable);
            assert_eq!(by_variable.len(), usize::from(!variable.is_empty()), "{variable}");
        }
        assert_eq!(without_effect(&parsed(&[]), |_| false), []);
    }

    #[test]
    fn instances_have_an_effect_in_an_object_alone() {
        for (output, told) in [("node", 1), ("file", 1), ("nodefeature", 0)] {
            let args = parsed(&["--labels", output, "--extra-labels=instances"]);
            assert_eq!(without_effect(&args, |_| false).len(), told, "{output}");
        }
    }
}
