//! `config check`: what it says of files, ConfigMaps and the values of charts.

use expect_test::expect_file;

use super::*;
use crate::config::check::{self, check, json};

const CONFIG_MAP: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: gpu-device-plugin, namespace: kube-system}
data:
  good.yaml: |
    version: v1
    flags:
      migStrategy: mixed
  bad.yaml: |-

    version: v1
    flags:
      migStrategy: sideways
      renameByDefault: true
      plugin:
        deviceListStrategy: cdi-annotations,cdi-cri
    sharing:
      timeSlicing:
        resources:
        - name: nvidia.com/mig-1g.24gb+gfx
          replicas: 1
  quoted.json: '{\"version\": \"v2\"}'
";

const VALUES: &str = "\
image: {repository: nvcr.io/nvidia/k8s-device-plugin}
resources: {}
config:
  map:
    default: |-
      version: v1
    nested:
      version: v1
    a100: |-
      version: v1
      flags: {migStrategi: mixed}
  default: default
";

/// What is said of a file with this name and text, in lines and as JSON.
fn said(name: &str, text: &str) -> (String, serde_json::Value) {
    let content = Ok(text.as_bytes().to_vec());
    let checked = check(&Sources::default(), name.as_ref(), content);
    let lines: Vec<_> = checked.iter().map(check::CheckedConfig::text).collect();
    (lines.join("\n"), serde_json::from_str(&json(&checked, false)).unwrap())
}

#[test]
fn every_configuration_in_a_document_is_checked() {
    let mut all = String::new();
    for (name, text) in [
        ("configmap.yaml", CONFIG_MAP),
        ("values.yaml", VALUES),
        ("plain.yaml", "version: v1\n"),
        ("deployment.yaml", "kind: Deployment\napiVersion: apps/v1\nspec: {}\n"),
        ("map.yaml", "kind: ConfigMap\napiVersion: v1\nmetadata: {}\n"),
        (
            "other-values.yaml",
            "image: {tag: v1}\nresources: {limits: {cpu: 1}}\nconfig: {map: {}}\n",
        ),
        ("broken.yaml", "flags: {\n"),
        ("empty.yaml", ""),
    ] {
        all += &said(name, text).0;
        all.push('\n');
    }
    expect_file!["check.txt"].assert_eq(&format!("{}\n", all.trim_end()));
}

#[test]
fn the_json_form_names_file_key_line_and_problem() {
    let (_, document) = said("configmap.yaml", CONFIG_MAP);
    expect_file!["check.json"].assert_eq(&format!("{document:#}\n"));
}

#[test]
fn warnings_fail_where_that_is_asked_for() {
    let content = Ok(b"version: v1\nflag: 1".to_vec());
    let checked = check(&Sources::default(), "a.yaml".as_ref(), content);
    assert!(checked[0].passes(false) && !checked[0].passes(true));
    assert_eq!(
        checked[0].text(),
        "a.yaml: no mistakes\n1 warning:\n  a.yaml:2: flag: unknown key, ignored; did you mean \
         flags?\n"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake() {
    let content = check::read("/none/c.yaml".as_ref());
    let checked = check(&Sources::default(), "/none/c.yaml".as_ref(), content);
    assert!(checked[0].text().contains("cannot be read: No such file"), "{}", checked[0].text());
}

#[test]
fn the_plugin_refuses_a_document_with_configurations_in_it() {
    for text in [CONFIG_MAP, VALUES, "{apiVersion: v1, kind: Pod}"] {
        let mistakes = with_file(text).mistakes();
        assert!(mistakes.len() == 1 && mistakes[0].contains("no configuration"), "{mistakes:?}");
    }
}
