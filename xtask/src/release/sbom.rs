//! The software bill of materials of a release, in the form of CycloneDX 1.6: the crates that are
//! in the executables, and the Debian packages that the image has beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::build::{Build, EXECUTABLES, KUBECTL_GPU};

/// The packages whose files `image/assemble` takes.
const OF_THE_IMAGE: [&str; 2] = ["libc6", "libgcc-s1"];

/// Writes it. Without the image it is of the executables alone.
pub(crate) fn write(
    build: &Build,
    file: &Path,
    version: &str,
    timestamp: &str,
    with_image: bool,
) -> anyhow::Result<()> {
    let metadata = metadata(build)?;
    let lock =
        std::fs::read_to_string(build.repository.join("Cargo.lock")).context("Cargo.lock")?;
    let packages = if with_image { debian()? } else { Vec::new() };
    let bill = bill(&metadata, &lock.parse().context("Cargo.lock")?, packages, version, timestamp)?;
    let text = serde_json::to_string_pretty(&bill)? + "\n";
    std::fs::write(file, text).with_context(|| file.display().to_string())
}

/// What cargo knows of the dependencies on this target.
fn metadata(build: &Build) -> anyhow::Result<Value> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--format-version", "1", "--locked", "--filter-platform"]);
    let output = cargo.arg(&build.triple).current_dir(&build.repository).output();
    let output = output.context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The names and versions of Debian's packages of the image, as they are installed here.
fn debian() -> anyhow::Result<Vec<(String, String)>> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${Package} ${Version}\n"]).args(OF_THE_IMAGE);
    let output = query.output().context("cannot run dpkg-query")?;
    ensure!(output.status.success(), "dpkg-query: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.map(|(name, version)| (name.to_owned(), version.to_owned())).collect())
}

fn bill(
    metadata: &Value,
    lock: &toml::Table,
    debian: Vec<(String, String)>,
    version: &str,
    timestamp: &str,
) -> anyhow::Result<Value> {
    let graph = graph(metadata)?;
    let mut roots: Vec<&str> = EXECUTABLES.iter().map(|(package, _)| *package).collect();
    roots.push(KUBECTL_GPU);
    let packages = packages(metadata);
    let named = |id: &&&str| packages.get(**id).is_some_and(|of| roots.contains(&name(of)));
    let mut left: Vec<&str> = graph.keys().filter(named).copied().collect();
    ensure!(left.len() == roots.len(), "cargo knows {left:?} of {roots:?}");
    let mut inside = BTreeSet::new();
    while let Some(id) = left.pop() {
        if !packages.get(id).is_some_and(|of| is_macro(of)) && inside.insert(id) {
            left.extend(graph.get(id).into_iter().flatten());
        }
    }
    let purls: BTreeMap<&str, String> =
        inside.iter().filter_map(|id| Some((*id, purl(packages.get(id)?)))).collect();
    let sums = checksums(lock);
    let mut components: Vec<Value> = inside
        .iter()
        .filter_map(|id| Some(component(packages.get(id)?, purls.get(id)?, &sums)))
        .collect();
    let mut dependencies: Vec<Value> = inside
        .iter()
        .filter_map(|id| {
            let on: BTreeSet<&String> =
                graph.get(id)?.iter().filter_map(|other| purls.get(other)).collect();
            Some(json!({"ref": purls.get(id)?, "dependsOn": on}))
        })
        .collect();
    for (name, version) in debian {
        let purl = format!("pkg:deb/debian/{name}@{}", version.replace('+', "%2B"));
        components.push(json!({
            "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
        }));
    }
    let key = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    components.sort_by_key(|component| key(component, "bom-ref"));
    dependencies.sort_by_key(|dependency| key(dependency, "ref"));
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": timestamp,
            "component": {
                "type": "application", "bom-ref": "gpu-device-plugin-release",
                "name": "gpu-device-plugin", "version": version,
                "licenses": [{"expression": "Apache-2.0"}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    }))
}

/// The packages by id.
fn packages(metadata: &Value) -> BTreeMap<&str, &Value> {
    let all = metadata["packages"].as_array().into_iter().flatten();
    all.filter_map(|package| Some((package["id"].as_str()?, package))).collect()
}

/// What each package depends on when it runs: no build scripts, no tests.
fn graph(metadata: &Value) -> anyhow::Result<BTreeMap<&str, Vec<&str>>> {
    let nodes = metadata["resolve"]["nodes"].as_array().context("cargo metadata has no graph")?;
    fn is_normal(dependency: &&Value) -> bool {
        let mut kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
        kinds.any(|kind| kind["kind"].is_null())
    }
    fn on(node: &Value) -> Vec<&str> {
        let dependencies = node["deps"].as_array().into_iter().flatten().filter(is_normal);
        dependencies.filter_map(|dependency| dependency["pkg"].as_str()).collect()
    }
    Ok(nodes.iter().filter_map(|node| Some((node["id"].as_str()?, on(node)))).collect())
}

/// Whether it is run by the compiler, so that nothing of it is in an executable.
fn is_macro(package: &Value) -> bool {
    let targets = package["targets"].as_array().into_iter().flatten();
    let mut kinds = targets.filter_map(|target| target["kind"].as_array()).flatten();
    kinds.any(|kind| kind == "proc-macro")
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap_or_default()
}

fn purl(package: &Value) -> String {
    let version = package["version"].as_str().unwrap_or_default();
    format!("pkg:cargo/{}@{}", name(package), version.replace('+', "%2B"))
}

/// The checksums of the crates of a registry, by name and version.
fn checksums(lock: &toml::Table) -> BTreeMap<(String, String), String> {
    let packages = lock.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    let text = |of: &toml::Value, key: &str| Some(of.get(key)?.as_str()?.to_owned());
    packages
        .filter_map(|of| Some(((text(of, "name")?, text(of, "version")?), text(of, "checksum")?)))
        .collect()
}

fn component(package: &Value, purl: &str, sums: &BTreeMap<(String, String), String>) -> Value {
    let version = package["version"].as_str().unwrap_or_default();
    let mut component = json!({
        "type": "library", "bom-ref": purl, "name": name(package), "version": version, "purl": purl,
    });
    if let Some(sum) = sums.get(&(name(package).to_owned(), version.to_owned())) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
    }
    if let Some(licence) = package["license"].as_str() {
        // The form before SPDX expressions.
        component["licenses"] = json!([{"expression": licence.replace('/', " OR ")}]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::build::{cargo_home, host};

    fn of_this_repository() -> Value {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let (home, target, triple) = (cargo_home().unwrap(), "target".into(), host().unwrap());
        let build = Build { repository, home, target, triple };
        let lock = std::fs::read_to_string(build.repository.join("Cargo.lock")).unwrap();
        let image = vec![("libc6".to_owned(), "2.36-9+deb12u13".to_owned())];
        let time = "2026-11-29T00:00:00Z";
        bill(&metadata(&build).unwrap(), &lock.parse().unwrap(), image, "0.1.0", time).unwrap()
    }

    #[test]
    fn what_is_in_the_executables_is_listed_and_what_builds_and_tests_them_is_not() {
        let bill = of_this_repository();
        let components = bill["components"].as_array().unwrap();
        let names: BTreeSet<&str> = components.iter().map(name).collect();
        for inside in ["gpu-device-plugin", "device", "tokio", "nvml-wrapper", "kube", "libc6"] {
            assert!(names.contains(inside), "{inside} is not in {names:?}");
        }
        for outside in ["criterion", "proptest", "protox", "syn", "serde_derive", "xtask"] {
            assert!(!names.contains(outside), "{outside} is in it");
        }
        let of = |name: &str| components.iter().find(|of| of["name"] == name).unwrap();
        assert_eq!(of("libc6")["purl"], "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13");
        assert_eq!(of("tokio")["hashes"][0]["content"].as_str().unwrap().len(), 64);
        assert!(of("device").get("hashes").is_none(), "it is not from a registry");
    }

    #[test]
    fn each_component_is_there_once_and_depends_on_components() {
        let bill = of_this_repository();
        let refs = |list: &str, field: &str| -> Vec<String> {
            let all = bill[list].as_array().unwrap().iter();
            all.map(|of| of[field].as_str().unwrap().to_owned()).collect()
        };
        let components: BTreeSet<String> = refs("components", "bom-ref").into_iter().collect();
        assert_eq!(components.len(), bill["components"].as_array().unwrap().len());
        assert!(refs("dependencies", "ref").iter().all(|of| components.contains(of)));
        for dependency in bill["dependencies"].as_array().unwrap() {
            for on in dependency["dependsOn"].as_array().unwrap() {
                assert!(components.contains(on.as_str().unwrap()), "{on}");
            }
        }
    }
}
