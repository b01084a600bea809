//! `kubectl gpu` for a laptop: an archive, and the manifest by which Krew installs it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use super::archive::{copy, pack};
use super::build::{Build, KUBECTL_GPU};

/// The manifest, with words in capitals where a release has values.
const MANIFEST: &str = "manifests/krew/gpu.yaml";
/// By it kubectl completes command lines.
const COMPLETION: &str = "manifests/krew/kubectl_complete-gpu";

/// Makes both in `out`. The manifest is for this processor; those of a release differ in the last
/// entry, so that they can be joined.
pub(super) fn make(
    build: &Build,
    executable: &Path,
    scratch: &Path,
    out: &Path,
    (version, epoch): (&str, &str),
) -> anyhow::Result<()> {
    let stem = format!("{KUBECTL_GPU}-{version}-{}", build.triple);
    let directory = scratch.join(&stem);
    let repository = &build.repository;
    copy(executable, &directory.join(KUBECTL_GPU), 0o755)?;
    copy(&repository.join(COMPLETION), &directory.join("kubectl_complete-gpu"), 0o755)?;
    copy(&repository.join("LICENSE"), &directory.join("LICENSE"), 0o644)?;
    let archive = out.join(format!("{stem}.tar.gz"));
    pack(&archive, scratch, &stem, epoch)?;
    let template = fs::read_to_string(repository.join(MANIFEST)).context(MANIFEST)?;
    let text = filled(&template, version, &build.triple, &sum(&archive)?)?;
    let manifest = out.join(format!("{stem}.krew.yaml"));
    fs::write(&manifest, text).with_context(|| manifest.display().to_string())
}

/// The manifest with the values of a release.
fn filled(template: &str, version: &str, triple: &str, sum: &str) -> anyhow::Result<String> {
    let processor = match triple.split('-').next() {
        Some("x86_64") => "amd64",
        Some("aarch64") => "arm64",
        _ => bail!("Krew's name of the processor of {triple} is not known"),
    };
    let values =
        [("VERSION", version), ("TRIPLE", triple), ("PROCESSOR", processor), ("SHA256", sum)];
    let mut text = template.to_owned();
    for (word, value) in values {
        ensure!(text.contains(word), "{MANIFEST} has no {word}");
        text = text.replace(word, value);
    }
    Ok(text)
}

fn sum(file: &Path) -> anyhow::Result<String> {
    let output = Command::new("sha256sum").arg(file).output().context("cannot run sha256sum")?;
    ensure!(output.status.success(), "sha256sum failed: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    text.split(' ').next().map(str::to_owned).context("sha256sum says nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_has_the_values_of_its_release() {
        let template = "version: vVERSION\nuri: VERSION-TRIPLE\narch: PROCESSOR\nsha: SHA256\n";
        let text = filled(template, "1.2.3", "aarch64-unknown-linux-gnu", "c0ffee").unwrap();
        let expected =
            "version: v1.2.3\nuri: 1.2.3-aarch64-unknown-linux-gnu\narch: arm64\nsha: c0ffee\n";
        assert_eq!(text, expected);
        assert!(filled("VERSION", "1", "x86_64-unknown-linux-gnu", "0").is_err());
        assert!(filled(template, "1", "riscv64-unknown-linux-gnu", "0").is_err());
    }
}
