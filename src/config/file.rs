//! What a config file may say (version v1, YAML or JSON): the keys of NVIDIA's schema and ours,
//! found in the document and not yet weighed against flags and environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::fields::{Field, Fields};
use super::raw::{self, Raw, Read};
use super::report::{Origin, Report};
use super::settings;
use super::tree::{self, Node, Scalar, Value};

/// A ConfigMap holds at most this, and so does every file that we read.
pub(super) const LARGEST: usize = 1 << 20;

/// A config file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileText {
    /// Its path.
    pub path: PathBuf,
    /// Its content, or why it could not be read.
    pub content: Result<Vec<u8>, String>,
}

/// The document of `file`. What keeps it from being one is told; an empty one is as good as none.
pub(super) fn document(file: &FileText, from: &Origin, report: &mut Report) -> Option<Node> {
    let path = file.path.display().to_string();
    let bytes = match &file.content {
        Ok(bytes) => bytes,
        Err(error) => {
            let problem =
                format!("cannot be read: {error}; is the ConfigMap or directory mounted there?");
            report.mistake(from.clone(), "config-file", format!("{path:?}"), problem);
            return None;
        }
    };
    report.file = Some(file.path.clone());
    if bytes.len() > LARGEST {
        let problem =
            format!("the file has more than {LARGEST} bytes, the most that a ConfigMap holds");
        report.mistake(Origin::File { line: 1 }, "", "", problem);
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let lines = bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
            let line = u32::try_from(lines + 1).unwrap_or(u32::MAX);
            report.mistake(Origin::File { line }, "", "", "the text is not UTF-8 from here on");
            return None;
        }
    };
    match tree::read(text) {
        Ok(document) => {
            if let Some(line) = document.second_document {
                report.warning(
                    Origin::File { line },
                    "",
                    "",
                    "a second document begins here and is ignored",
                );
            }
            document.root
        }
        Err(error) => {
            report.mistake(
                Origin::File { line: error.line },
                "",
                "",
                format!("not YAML or JSON: {}", error.problem),
            );
            None
        }
    }
}

/// The parts of a document.
#[derive(Debug, Default)]
pub(super) struct Layer<'a> {
    /// The values of settings, by key path.
    pub(super) settings: BTreeMap<&'static str, Field<'a>>,
    pub(super) sharing: Option<Field<'a>>,
    pub(super) resources: Option<Field<'a>>,
    pub(super) health: Option<Field<'a>>,
}

/// Finds the parts of `root`, and tells of every key that is none.
pub(super) fn layer<'a>(root: &'a Node, report: &mut Report) -> Layer<'a> {
    let mut layer = Layer::default();
    let Some(mut fields) = Fields::open("", root, report) else { return layer };
    if let Some(version) = fields.take("version", report) {
        match raw::node_text(version.node) {
            Ok("v1") => {}
            _ => report.mistake(
                version.origin(),
                "version",
                version.node.shown(),
                "is not v1, the only version there is",
            ),
        }
    }
    if let Some(flags) = fields.take("flags", report)
        && let Some(mut flags) = Fields::open("flags", flags.node, report)
    {
        layer.take_settings("flags", &mut flags, report);
        if let Some(plugin) = flags.take("plugin", report)
            && let Some(mut plugin) = Fields::open("flags.plugin", plugin.node, report)
        {
            layer.take_settings("flags.plugin", &mut plugin, report);
            plugin.finish(report);
        }
        feature_discovery(&mut flags, report);
        flags.finish(report);
    }
    if let Some(imex) = fields.take("imex", report)
        && let Some(mut imex) = Fields::open("imex", imex.node, report)
    {
        layer.take_settings("imex", &mut imex, report);
        imex.finish(report);
    }
    layer.take_settings("", &mut fields, report);
    layer.sharing = fields.take("sharing", report);
    layer.resources = fields.take("resources", report);
    layer.health = fields.take("health", report);
    if let Some(line) = fields.take("commandLine", report) {
        let problem =
            "is ignored: these settings are taken from the command line and the environment only";
        report.warning(line.origin(), "commandLine", "", problem);
    }
    fields.finish(report);
    layer
}

impl<'a> Layer<'a> {
    /// Takes every setting of the table whose key stands directly in the mapping at `path`.
    fn take_settings(&mut self, path: &str, fields: &mut Fields<'a>, report: &mut Report) {
        for setting in settings::ALL {
            let Some(key) = setting.key else { continue };
            let (parent, name) = key.rsplit_once('.').unwrap_or(("", key));
            if parent == path
                && let Some(field) = fields.take(name, report)
            {
                self.settings.insert(key, field);
            }
        }
    }
}

/// The keys of GPU feature discovery, which reads the same file: checked, and of no meaning here.
fn feature_discovery(flags: &mut Fields<'_>, report: &mut Report) {
    check(flags, "useNodeFeatureAPI", report, |node| raw::boolean(Raw::Node(node)).map(|_| ()));
    let Some(gfd) = flags.take("gfd", report) else { return };
    let Some(mut gfd) = Fields::open("flags.gfd", gfd.node, report) else { return };
    for name in ["oneshot", "noTimestamp"] {
        check(&mut gfd, name, report, |node| raw::boolean(Raw::Node(node)).map(|_| ()));
    }
    for name in ["outputFile", "machineTypeFile"] {
        check(&mut gfd, name, report, |node| raw::node_text(node).map(|_| ()));
    }
    check(&mut gfd, "sleepInterval", report, |node| match &node.value {
        Value::Scalar(Scalar { text, .. }) if text == "infinite" => Ok(()),
        _ => raw::duration(Raw::Node(node)).map(|_| ()),
    });
    gfd.finish(report);
}

fn check(
    fields: &mut Fields<'_>,
    name: &'static str,
    report: &mut Report,
    read: impl FnOnce(&Node) -> Read<()>,
) {
    let Some(field) = fields.take(name, report) else { return };
    for wrong in read(field.node).err().unwrap_or_default() {
        report.mistake(field.origin(), field.path.as_str(), wrong.value, wrong.problem);
    }
}
