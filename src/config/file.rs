//! The keys of a config file (version v1, YAML or JSON): those of NVIDIA's schema and ours.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;

use super::embedded;
use super::fields::{Field, Fields};
use super::report::{Context, Origin};
use super::scalar::Meaning;
use super::settings;
use super::tree::{self, Document, Node, Scalar, SyntaxError, Value};
use super::value::{self, Parsed, RawValue};

/// A ConfigMap holds at most this, and so does every file that we read.
const LARGEST: usize = 1 << 20;

/// A config file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileText {
    /// Its path.
    pub path: PathBuf,
    /// Its content, or why it could not be read.
    pub content: Result<Vec<u8>, String>,
}

/// Reads no more than shows that it is more than a config file may have.
pub(super) fn read_start(file: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(LARGEST + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The document of `file`; that it is none is a mistake. An empty one is the same as no file.
pub(super) fn document(file: &FileText, from: &Origin, context: &mut Context) -> Option<Node> {
    let path = file.path.display().to_string();
    let bytes = match &file.content {
        Ok(bytes) => bytes,
        Err(error) => {
            let problem =
                format!("cannot be read: {error}; is the ConfigMap or directory mounted there?");
            context.mistake(from.clone(), "config-file", format!("{path:?}"), problem);
            return None;
        }
    };
    context.report.file = Some(file.path.clone());
    match parse(bytes) {
        Ok(document) => {
            if let Some(line) = document.second_document {
                let problem = match document.root {
                    Some(_) => "a second document begins here and is ignored",
                    None => "the first document is empty and counts; this second one is ignored",
                };
                context.warning(Origin::File { line }, "", "", problem);
            }
            document.root
        }
        Err(SyntaxError { line, problem }) => {
            context.mistake(Origin::File { line }, "", "", problem);
            None
        }
    }
}

/// Whether there is anything in the file but comments. One that is malformed has content.
pub(super) fn has_content(file: &FileText) -> bool {
    let is_empty = |bytes: &Vec<u8>| parse(bytes).is_ok_and(|document| document.root.is_none());
    !file.content.as_ref().is_ok_and(is_empty)
}

fn parse(bytes: &[u8]) -> Result<Document, SyntaxError> {
    if bytes.len() > LARGEST {
        let problem =
            format!("the file has more than {LARGEST} bytes, the most that a ConfigMap holds");
        return Err(SyntaxError { line: 1, problem });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let lines = bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        let problem = "the text is not UTF-8 from here on".to_owned();
        SyntaxError { line: u32::try_from(lines + 1).unwrap_or(u32::MAX), problem }
    })?;
    tree::read(text).map_err(|error| SyntaxError {
        problem: format!("not YAML or JSON: {}", error.problem),
        ..error
    })
}

/// The parts of a document.
#[derive(Debug, Default)]
pub(super) struct FileValues<'a> {
    /// The values of settings, by key path.
    pub(super) settings: BTreeMap<&'static str, Field<'a>>,
    pub(super) sharing: Option<Field<'a>>,
    pub(super) resources: Option<Field<'a>>,
}

/// The mappings in which the keys of settings are, those within another one after it.
const MAPPINGS: [&str; 4] = ["flags", "flags.plugin", "imex", "health"];

/// Finds the parts of `root`, and warns of every unknown key.
pub(super) fn values<'a>(root: &'a Node, context: &mut Context) -> FileValues<'a> {
    let mut values = FileValues::default();
    if let Some((line, problem)) = embedded::other_document(root) {
        context.mistake(Origin::File { line }, "", "", problem);
        return values;
    }
    let Some(mut fields) = Fields::open("", root, context) else { return values };
    // An empty one is the default, as it is for NVIDIA's plugin.
    if let Some(version) = fields.take("version", context)
        && !matches!(value::node_text(version.node), Ok("v1" | ""))
    {
        let problem = "is not v1, the only version there is";
        context.mistake(version.origin(), "version", version.node.shown(), problem);
    }
    values.sharing = fields.take("sharing", context);
    values.resources = fields.take("resources", context);
    if let Some(line) = fields.take("commandLine", context) {
        let problem =
            "is ignored: these settings are taken from the command line and the environment only";
        context.warning(line.origin(), "commandLine", "", problem);
    }
    values.take("", fields, context);
    values
}

impl<'a> FileValues<'a> {
    /// Takes every setting of the mapping at `path`, and of the mappings in it.
    fn take(&mut self, path: &str, mut fields: Fields<'a>, context: &mut Context) {
        let in_path = |key: &'static str| {
            let (parent, name) = key.rsplit_once('.').unwrap_or(("", key));
            (parent == path).then_some(name)
        };
        for key in settings::all().filter_map(|setting| setting.key) {
            if let Some(name) = in_path(key)
                && let Some(field) = fields.take(name, context)
            {
                self.settings.insert(key, field);
            }
        }
        for mapping in MAPPINGS {
            if let Some(name) = in_path(mapping)
                && let Some(field) = fields.take(name, context)
                && let Some(fields) = Fields::open(mapping, field.node, context)
            {
                self.take(mapping, fields, context);
            }
        }
        if path == "flags" {
            feature_discovery(&mut fields, context);
        }
        fields.finish(context);
    }
}

/// The keys of GPU feature discovery, which reads the same file: checked, and without effect here.
fn feature_discovery(flags: &mut Fields<'_>, context: &mut Context) {
    type KeyCheck = fn(&Node) -> Parsed<()>;
    let boolean: KeyCheck = |node| value::boolean(RawValue::Node(node)).map(|_| ());
    let text: KeyCheck = |node| value::node_text(node).map(|_| ());
    let interval: KeyCheck = |node| match &node.value {
        Value::Scalar(Scalar { text, .. }) if text == "infinite" => Ok(()),
        Value::Scalar(Scalar { meaning: Meaning::Int(_) | Meaning::Float(_), .. }) => Ok(()),
        _ => value::signed_duration(node),
    };
    flags.take("useNodeFeatureAPI", context).and_then(|field| field.parse(boolean, context));
    let Some(gfd) = flags.take("gfd", context) else { return };
    let Some(mut gfd) = Fields::open("flags.gfd", gfd.node, context) else { return };
    for (name, check) in [
        ("oneshot", boolean),
        ("noTimestamp", boolean),
        ("outputFile", text),
        ("machineTypeFile", text),
        ("sleepInterval", interval),
    ] {
        gfd.take(name, context).and_then(|field| field.parse(check, context));
    }
    gfd.finish(context);
}
