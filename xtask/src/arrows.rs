//! Which crates of the workspace may depend on which: the layers of `docs/architecture.md`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::cargo;

/// Every crate and the crates it may depend on. Crates for development (`[dev-dependencies]`) are free.
const ALLOWED: &[(&str, &[&str])] = &[
    ("selfsup-core", &[]),
    ("selfsup-fetch", &[]),
    ("selfsup-numerics", &["selfsup-core"]),
    ("selfsup-data", &["selfsup-core", "selfsup-fetch"]),
    ("selfsup-encoders", &["selfsup-core"]),
    ("selfsup-objectives", &["selfsup-core", "selfsup-numerics"]),
    ("selfsup-labels", &["selfsup-core", "selfsup-numerics"]),
    ("selfsup-eval", &["selfsup-core", "selfsup-numerics"]),
    ("selfsup-train", &["selfsup-core"]),
    (
        "selfsup",
        &[
            "selfsup-core",
            "selfsup-fetch",
            "selfsup-numerics",
            "selfsup-data",
            "selfsup-encoders",
            "selfsup-objectives",
            "selfsup-labels",
            "selfsup-eval",
            "selfsup-train",
        ],
    ),
    ("selfsup-cli", &["selfsup"]),
    ("selfsup-benches", &["selfsup"]),
    ("xtask", &["selfsup-fetch"]),
];

/// Only this crate names tch; the others use its re-export, so that no two of them skew.
const OWNS_TCH: &str = "selfsup-core";

/// Compares the manifests with the table.
pub fn check() -> Result<()> {
    eprintln!("==> checking which crates depend on which");
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps"]).output()?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata's answer")?;
    let faults = faults(&metadata);
    if faults.is_empty() {
        return Ok(());
    }
    bail!(
        "{}\nremove the dependency, or change the table in xtask/src/arrows.rs with its reason",
        faults.join("\n")
    );
}

/// Each dependency that the table does not allow, as a line.
fn faults(metadata: &Value) -> Vec<String> {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut faults = Vec::new();
    for package in list(&metadata["packages"]) {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(arrows) = allowed.get(name) else {
            faults.push(format!("{name} is not in the table of crates"));
            continue;
        };
        for dependency in list(&package["dependencies"]) {
            let target = dependency["name"].as_str().unwrap_or_default();
            let for_development = dependency["kind"] == "dev";
            let is_ours = allowed.contains_key(target);
            if is_ours && !for_development && !arrows.contains(&target) {
                faults.push(format!("{name} depends on {target}"));
            }
            if matches!(target, "tch" | "torch-sys") && name != OWNS_TCH {
                faults.push(format!("{name} depends on {target}, which only {OWNS_TCH} may"));
            }
        }
    }
    faults
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(name: &str, dependency: &str, kind: Option<&str>) -> Vec<String> {
        let dependencies = json!([{ "name": dependency, "kind": kind }]);
        faults(&json!({ "packages": [{ "name": name, "dependencies": dependencies }] }))
    }

    #[test]
    fn a_new_arrow_is_found() {
        assert_eq!(found("selfsup-eval", "selfsup-data", None), ["selfsup-eval depends on selfsup-data"]);
        assert_eq!(found("xtask", "tch", None).len(), 1);
        assert_eq!(found("selfsup-new", "serde", None), ["selfsup-new is not in the table of crates"]);
    }

    #[test]
    fn allowed_and_development_dependencies_pass() {
        assert!(found("selfsup-eval", "selfsup-numerics", None).is_empty());
        assert!(found("selfsup-eval", "selfsup-data", Some("dev")).is_empty());
        assert!(found("selfsup-core", "tch", None).is_empty());
    }

    #[test]
    fn the_table_has_no_circle() {
        // Crates stand behind those they depend on, so a circle cannot be written.
        for (at, (name, arrows)) in ALLOWED.iter().enumerate() {
            for arrow in *arrows {
                assert!(ALLOWED[..at].iter().any(|(earlier, _)| earlier == arrow), "{name} -> {arrow}");
            }
        }
    }
}
