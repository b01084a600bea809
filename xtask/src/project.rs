//! The project's address, image and contact: `Cargo.toml` states them, and no other file states
//! others.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

/// What `Cargo.toml` says of the project.
#[derive(Debug)]
struct Project {
    version: String,
    /// Where the source is, without a slash at the end.
    repository: String,
    /// The image's name, without a tag.
    image: String,
    /// The mail address to write to in confidence.
    contact: String,
}

/// The name that addresses and images of the project end with.
const NAME: &str = "gpu-device-plugin";

/// The registry that stands in documents for the reader's own.
const OF_THE_READER: &str = "registry.example.com/";

impl Project {
    fn read(root: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(root.join("Cargo.toml")).context("Cargo.toml")?;
        let manifest: toml::Table = text.parse().context("Cargo.toml")?;
        let field = |path: &str| {
            let mut value = manifest.get("workspace");
            for key in path.split('.') {
                value = value.and_then(|value| value.get(key));
            }
            let text = value.and_then(toml::Value::as_str);
            text.map(str::to_owned).with_context(|| format!("Cargo.toml has no workspace.{path}"))
        };
        Ok(Self {
            version: field("package.version")?,
            repository: field("package.repository")?,
            image: field("metadata.project.image")?,
            contact: field("metadata.project.contact")?,
        })
    }

    /// What files have to state, so that a check of nothing does not pass.
    fn required(&self) -> [(&'static str, String); 5] {
        [
            ("SECURITY.md", self.contact.clone()),
            (".github/ISSUE_TEMPLATE/config.yml", self.repository.clone()),
            ("Dockerfile", format!("image.source=\"{}\"", self.repository)),
            ("Dockerfile", format!("image.version=\"{}\"", self.version)),
            ("manifests/gpu-device-plugin.yaml", format!("image: {}\n", self.tagged_image())),
        ]
    }

    fn tagged_image(&self) -> String {
        format!("{}:{}", self.image, self.version)
    }

    /// What a word says of the project that is not so.
    fn objection(&self, word: &str) -> Option<String> {
        if word.contains("://") {
            let ours = word.split('/').any(|part| part.trim_end_matches(".git") == NAME);
            let right = word.strip_prefix(&self.repository).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with(['/', '#', '?']) || rest == ".git"
            });
            return (ours && !right).then(|| format!("the repository is {}", self.repository));
        }
        if is_mail_address(word) {
            return (word != self.contact).then(|| format!("the contact is {}", self.contact));
        }
        let (name, tag) = split_tag(word);
        if name.rsplit('/').next() != Some(NAME) || (tag.is_none() && !has_registry(name)) {
            return None;
        }
        let ours = name == self.image || name.starts_with(OF_THE_READER);
        let right = ours && tag.is_none_or(|tag| tag == self.version);
        (!right).then(|| format!("the image is {}", self.tagged_image()))
    }
}

/// Prints what the project is, and fails with each place that says something else.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let project = Project::read(root)?;
    println!("version     {}", project.version);
    println!("repository  {}", project.repository);
    println!("image       {}", project.image);
    println!("contact     {}", project.contact);
    let mut objections = Vec::new();
    for file in tracked_texts(root)? {
        let text = fs::read_to_string(root.join(&file)).with_context(|| file.clone())?;
        objections.extend(objections_in(&project, &text).map(|what| format!("{file}:{what}")));
    }
    for (file, stated) in project.required() {
        let text = fs::read_to_string(root.join(file)).with_context(|| file.to_owned())?;
        if !text.contains(&stated) {
            objections.push(format!("{file}: it does not say {:?}", stated.trim()));
        }
    }
    objections.iter().for_each(|objection| println!("{objection}"));
    ensure!(objections.is_empty(), "Cargo.toml says otherwise in {} places", objections.len());
    Ok(())
}

/// The version of the workspace.
pub(crate) fn version(root: &Path) -> anyhow::Result<String> {
    Ok(Project::read(root)?.version)
}

/// How to report a vulnerability to whom, for `SECURITY.md`.
pub(crate) fn security_contact(root: &Path) -> anyhow::Result<String> {
    let Project { contact, .. } = Project::read(root)?;
    Ok(format!("Write to <{contact}>. Do not open an issue or a pull request for it.\n"))
}

/// Objections with the numbers of their lines.
fn objections_in(project: &Project, text: &str) -> impl Iterator<Item = String> {
    text.lines().zip(1..).flat_map(move |(line, number)| {
        let objection = move |word: &str| {
            let why = project.objection(word)?;
            Some(format!("{number}: {word}, but {why}"))
        };
        words(line).filter_map(objection).collect::<Vec<_>>()
    })
}

/// What may be an address, an image or a mail address, without the marks around it.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let around = |c: char| c.is_whitespace() || "\"'`<>()[]{},;=|\\".contains(c);
    line.split(around).map(|word| word.trim_end_matches(['.', ':']))
}

/// `name:tag` or `name@digest`.
fn split_tag(word: &str) -> (&str, Option<&str>) {
    let (word, digest) = word.split_once('@').map_or((word, None), |(word, d)| (word, Some(d)));
    // A colon before the last slash is a registry's port.
    match word.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        Some((name, tag)) => (name, Some(tag)),
        None => (word, digest),
    }
}

/// Whether a name with slashes begins with a registry's host, as a path does not.
fn has_registry(name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(host, _)| host.contains(['.', ':']) && !host.starts_with('.'))
}

fn is_mail_address(word: &str) -> bool {
    let part = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_+".contains(c))
    };
    let Some((user, host)) = word.split_once('@') else { return false };
    let Some((_, top)) = host.rsplit_once('.') else { return false };
    part(user) && part(host) && top.len() > 1 && top.chars().all(|c| c.is_ascii_alphabetic())
}

/// Files in which an address stands for a person or a cluster to use: all but code, what is made
/// by others, and the history.
fn tracked_texts(root: &Path) -> anyhow::Result<Vec<String>> {
    let git = Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output();
    let output = git.context("cannot run git")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).context("a file's name is not UTF-8")?;
    let suffixes = [".md", ".toml", ".yaml", ".yml", ".tpl", "Dockerfile", ".service", ".json"];
    let stated = |name: &&str| {
        suffixes.iter().any(|suffix| name.ends_with(suffix)) && *name != "CHANGELOG.md"
    };
    Ok(names.split('\0').filter(stated).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> Project {
        Project {
            version: "1.2.3".to_owned(),
            repository: "https://git.example.com/gpu/gpu-device-plugin".to_owned(),
            image: "images.example.com/gpu/gpu-device-plugin".to_owned(),
            contact: "security@example.com".to_owned(),
        }
    }

    fn objections(text: &str) -> Vec<String> {
        objections_in(&project(), text).collect()
    }

    #[test]
    fn what_is_stated_rightly_passes() {
        let text = "Write to <security@example.com>.\n\
                    image: images.example.com/gpu/gpu-device-plugin:1.2.3\n\
                    newName: registry.example.com/gpu-device-plugin\n\
                    See https://git.example.com/gpu/gpu-device-plugin/issues, or \
                    `git clone https://git.example.com/gpu/gpu-device-plugin.git`.\n";
        assert_eq!(objections(text), [""; 0]);
    }

    #[test]
    fn another_address_image_version_or_contact_is_refused() {
        for text in [
            "https://git.example.org/gpu/gpu-device-plugin",
            "[it](https://git.example.com/gpu/gpu-device-plugin-next/gpu-device-plugin)",
            "https://git.example.org/gpu-device-plugin.git",
            "image: gpu-device-plugin:1.2.3",
            "repository: ghcr.io/gpu/gpu-device-plugin",
            "images.example.com/gpu/gpu-device-plugin:latest",
            "docker build -t images.example.com:5000/gpu-device-plugin:1.2.3 .",
            "images.example.com/other/gpu-device-plugin@sha256:00",
            "registry.example.com/gpu-device-plugin:1.2.2",
            "write to somebody@example.com.",
        ] {
            assert_eq!(objections(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_one_passes() {
        let text = "/usr/bin/gpu-device-plugin target/debug/gpu-device-plugin ./gpu-device-plugin\n\
                    gpu-device-plugin: cannot register\n\
                    https://github.com/NVIDIA/k8s-device-plugin\n\
                    nvcr.io/nvidia/k8s-device-plugin:v1\n\
                    uses: actions/checkout@0123 syn@2.0.119 user@host\n";
        assert_eq!(objections(text), [""; 0]);
    }

    #[test]
    fn a_line_is_named_by_its_number() {
        assert!(
            objections("\nimage: gpu-device-plugin:0\n")[0].starts_with("2: gpu-device-plugin:0")
        );
    }
}
