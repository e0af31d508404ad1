//! The structure of DESIGN section 1, held: who may depend on whom, and where unsafe code
//! may be.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

/// The only places where unsafe code may be.
const UNSAFE: &[&str] = &["netsonde-af-xdp", "netsonde-ebpf", "netsonde-sys"];

/// Every crate of ours with all that it may depend on, directly, in any build.
const ALLOWED: &[(&str, &[&str])] = &[
    ("netsonde-base", &[]),
    ("netsonde-wire", &["netsonde-base"]),
    ("netsonde-record", &["netsonde-base"]),
    ("netsonde-sys", &["netsonde-base"]),
    ("netsonde-af-xdp", &[]),
    ("netsonde-ebpf", &["netsonde-base"]),
    (
        "netsonde-capture",
        &[
            "netsonde-base",
            "netsonde-sys",
            "netsonde-af-xdp",
            "netsonde-ebpf",
        ],
    ),
    ("netsonde-measure", &["netsonde-base", "netsonde-wire"]),
    (
        "netsonde-probe",
        &[
            "netsonde-base",
            "netsonde-sys",
            "netsonde-wire",
            "netsonde-measure",
            "netsonde-record",
        ],
    ),
    ("netsonde-exporter", &["netsonde-base", "netsonde-record"]),
    (
        "netsonde",
        &[
            "netsonde-base",
            "netsonde-sys",
            "netsonde-wire",
            "netsonde-measure",
            "netsonde-record",
            "netsonde-probe",
            "netsonde-capture",
            "netsonde-ebpf",
            "netsonde-exporter",
        ],
    ),
    (
        "netsonde-lab",
        &["netsonde-base", "netsonde-sys", "netsonde-wire"],
    ),
    (
        "netsonde-e2e",
        &[
            "netsonde-base",
            "netsonde-capture",
            "netsonde-ebpf",
            "netsonde-lab",
        ],
    ),
    ("netsonde-xtask", &["netsonde-lab"]),
];

/// Crates that measure the others and may see them all; nobody may depend on them.
const OUTSIDE: &[&str] = &["netsonde-bench"];

/// A workspace as far as arrows concern it: each crate with those of ours it depends on.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Every breach, one line each.
fn breaches(graph: &Graph) -> Vec<String> {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut found = Vec::new();
    for (name, dependencies) in graph {
        let outside = OUTSIDE.contains(&name.as_str());
        if !outside && !allowed.contains_key(name.as_str()) {
            found.push(format!(
                "{name} is not in the list: say here what it may depend on"
            ));
            continue;
        }
        for dependency in dependencies {
            let may = allowed.get(name.as_str());
            let fine = match may {
                Some(may) => may.contains(&dependency.as_str()),
                None => !OUTSIDE.contains(&dependency.as_str()),
            };
            if !fine {
                found.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    for name in allowed.keys().filter(|name| !graph.contains_key(**name)) {
        found.push(format!("{name} is in the list but not in the workspace"));
    }
    found
}

fn metadata() -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--locked",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "cargo metadata: {said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key].as_str().with_context(|| key.to_owned())
}

/// Dependencies by path are ours, in whatever folder and under whatever alias.
fn graph(metadata: &Value) -> Result<Graph> {
    let packages = metadata["packages"].as_array().context("packages")?;
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().context("dependencies")?;
            let ours = dependencies
                .iter()
                .filter(|dependency| dependency["path"].is_string())
                .map(|dependency| Ok(text(dependency, "name")?.to_owned()))
                .collect::<Result<_>>()?;
            Ok((text(package, "name")?.to_owned(), ours))
        })
        .collect()
}

/// The root file of every library and binary. Tests and benches count allocations, and the
/// trait for that is unsafe.
fn roots(metadata: &Value) -> Result<Vec<(String, PathBuf)>> {
    let mut roots = Vec::new();
    for package in metadata["packages"].as_array().context("packages")? {
        let targets = package["targets"].as_array().context("targets")?;
        let kinds = |target: &&Value| {
            let kinds = target["kind"].as_array();
            kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "lib" || kind == "bin"))
        };
        for target in targets.iter().filter(kinds) {
            let path = PathBuf::from(text(target, "src_path")?);
            roots.push((text(package, "name")?.to_owned(), path));
        }
    }
    Ok(roots)
}

fn forbids_unsafe(source: &str) -> bool {
    source
        .lines()
        .any(|line| line.trim() == "#![forbid(unsafe_code)]")
}

#[test]
fn crates_depend_along_the_arrows() {
    let graph = graph(&metadata().expect("metadata")).expect("its form");
    assert!(graph.len() >= ALLOWED.len(), "{graph:?}");
    let found = breaches(&graph);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn unsafe_code_is_forbidden_outside_sys() {
    let roots = roots(&metadata().expect("metadata")).expect("its form");
    assert!(roots.len() >= ALLOWED.len());
    for (name, root) in roots {
        if UNSAFE.contains(&name.as_str()) {
            continue;
        }
        let source = std::fs::read_to_string(&root).expect("readable");
        let root = root.display();
        assert!(
            forbids_unsafe(&source),
            "{root} lacks #![forbid(unsafe_code)]"
        );
    }
}

/// The workspace as it should be, to be broken in one place.
fn model() -> Graph {
    let mut graph: Graph = ALLOWED
        .iter()
        .map(|(name, may)| {
            let may = may.iter().map(|name| (*name).to_owned()).collect();
            ((*name).to_owned(), may)
        })
        .collect();
    let all = graph.keys().cloned().collect();
    graph.insert("netsonde-bench".into(), all);
    graph
}

#[test]
fn a_breach_is_found() {
    assert_eq!(breaches(&model()), Vec::<String>::new());
    for (name, dependency) in [
        ("netsonde-wire", "netsonde-sys"),
        ("netsonde-base", "netsonde-wire"),
        ("netsonde-measure", "netsonde-record"),
        ("netsonde-exporter", "netsonde-measure"),
        ("netsonde-lab", "netsonde-probe"),
        ("netsonde-probe", "netsonde-bench"),
    ] {
        let mut broken = model();
        broken
            .entry(name.into())
            .or_default()
            .insert(dependency.into());
        assert_eq!(
            breaches(&broken),
            [format!("{name} must not depend on {dependency}")]
        );
    }
    let mut unknown = model();
    unknown.insert("netsonde-new".into(), BTreeSet::new());
    assert_eq!(
        breaches(&unknown).len(),
        1,
        "a new crate has to say where it stands"
    );
    let mut gone = model();
    gone.remove("netsonde-lab");
    assert!(
        breaches(&gone)
            .iter()
            .any(|line| line.contains("not in the workspace"))
    );
}

#[test]
fn a_breach_is_found_in_what_cargo_writes() {
    let written = serde_json::json!({"packages": [
        {"name": "netsonde-base", "dependencies": [], "targets": []},
        {"name": "netsonde-wire", "targets": [], "dependencies": [
            {"name": "serde"},
            {"name": "netsonde-base", "rename": "base", "path": "/w/agent/base"},
            {"name": "netsonde-sys", "rename": "sys", "path": "/w/agent/sys", "kind": "dev"},
        ]},
    ]});
    let graph = graph(&written).expect("its form");
    let expected: BTreeSet<String> = ["netsonde-base", "netsonde-sys"]
        .map(str::to_owned)
        .into_iter()
        .collect();
    assert_eq!(graph["netsonde-wire"], expected);
    assert!(breaches(&graph).contains(&"netsonde-wire must not depend on netsonde-sys".into()));
}

#[test]
fn the_attribute_counts_only_where_it_works() {
    assert!(forbids_unsafe(
        "//! Head.\n#![forbid(unsafe_code)]\nmod a;\n"
    ));
    for source in ["", "// #![forbid(unsafe_code)]", "#![deny(unsafe_code)]"] {
        assert!(!forbids_unsafe(source), "{source}");
    }
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).is_absolute());
}
