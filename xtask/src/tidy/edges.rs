//! Which crate may depend on which. A new line here is an architectural change: it goes with its
//! reason into ARCHITECTURE.md.

use cargo_metadata::{DependencyKind, Package};

use super::Findings;

/// A crate's place in the architecture.
struct Rule {
    package: &'static str,
    /// Crates of the workspace that it may depend on.
    workspace: &'static [&'static str],
    /// Crates from elsewhere that it may depend on; `None` is any.
    external: Option<&'static [&'static str]>,
}

/// The crates that are published.
const EVERY_CRATE: &[&str] = &[
    "zs-core",
    "zs-curriculum",
    "zs-data",
    "zs-eval",
    "zs-model",
    "zs-observe",
    "zs-reproduce",
    "zs-rl",
    "zs-search",
    "zs-serve",
    "zs-simulator",
    "zs-train",
    "zs-trainer",
    "zs-world",
];

const RULES: &[Rule] = &[
    Rule {
        package: "zs-core",
        workspace: &[],
        external: Some(&[
            "garde",
            "rand",
            "rand_chacha",
            "serde",
            "serde_json",
            "strsim",
            "thiserror",
            "unicode-properties",
        ]),
    },
    Rule { package: "zs-curriculum", workspace: &["zs-core"], external: Some(&["garde", "serde"]) },
    Rule {
        package: "zs-data",
        workspace: &["zs-core"],
        external: Some(&[
            "backon",
            "flate2",
            "hf-hub",
            "parquet",
            "percent-encoding",
            "secrecy",
            "serde",
            "serde_json",
            "serde_path_to_error",
            "sha1",
            "sha2",
            "tempfile",
            "thiserror",
            "ureq",
            "zstd",
        ]),
    },
    Rule {
        package: "zs-model",
        workspace: &["zs-core"],
        external: Some(&[
            "burn",
            "burn-cubecl",
            "burn-flex",
            "burn-pack",
            "cubecl",
            "cubecl-cuda",
            "gemm",
            "half",
            "memmap2",
            "minijinja",
            "minijinja-contrib",
            "multiversion",
            "parking_lot",
            "rand",
            "rand_chacha",
            "rayon",
            "safetensors",
            "serde",
            "serde_json",
            "thiserror",
            "tokenizers",
            "tracing",
        ]),
    },
    Rule {
        package: "zs-search",
        workspace: &["zs-core", "zs-data"],
        external: Some(&[
            "backon",
            "flate2",
            "garde",
            "governor",
            "hdrhistogram",
            "heed",
            "httpdate",
            "parking_lot",
            "rand",
            "rand_chacha",
            "rayon",
            "secrecy",
            "serde",
            "serde_json",
            "sha2",
            "tantivy",
            "tempfile",
            "thiserror",
            "ureq",
        ]),
    },
    Rule {
        package: "zs-world",
        workspace: &["zs-core", "zs-search"],
        external: Some(&["rand", "rand_chacha", "serde", "serde_json", "thiserror"]),
    },
    Rule {
        package: "zs-simulator",
        workspace: &["zs-core", "zs-data", "zs-model", "zs-search", "zs-world"],
        external: Some(&[
            "garde",
            "minijinja",
            "parking_lot",
            "rand",
            "rand_chacha",
            "rayon",
            "regex",
            "serde",
            "serde_json",
            "thiserror",
        ]),
    },
    Rule {
        package: "zs-rl",
        workspace: &["zs-core", "zs-model"],
        external: Some(&[
            "burn",
            "garde",
            "minijinja",
            "rand",
            "rand_chacha",
            "serde",
            "serde_json",
            "thiserror",
            "tracing",
        ]),
    },
    Rule {
        package: "zs-eval",
        workspace: &["zs-core", "zs-data", "zs-model", "zs-rl"],
        external: Some(&["minijinja", "rand", "rand_chacha", "serde", "serde_json", "thiserror"]),
    },
    Rule {
        package: "zs-serve",
        workspace: &["zs-core", "zs-model"],
        external: Some(&[
            "axum",
            "futures-util",
            "http-body-util",
            "hyper",
            "hyper-util",
            "prometheus-client",
            "rand",
            "serde",
            "serde_json",
            "sha2",
            "subtle",
            "thiserror",
            "tokio",
        ]),
    },
    Rule {
        package: "zs-trainer",
        workspace: &[
            "zs-core",
            "zs-curriculum",
            "zs-data",
            "zs-eval",
            "zs-model",
            "zs-rl",
            "zs-search",
            "zs-simulator",
            "zs-world",
        ],
        external: Some(&[
            "anyhow",
            "burn",
            "comfy-table",
            "rand",
            "serde",
            "serde_json",
            "strsim",
            "sysinfo",
            "thiserror",
            "toml",
            "toml_edit",
            "tracing",
            "vergen-gitcl",
            "walkdir",
            "zstd",
        ]),
    },
    Rule {
        package: "zs-observe",
        workspace: &["zs-core", "zs-data", "zs-model", "zs-rl", "zs-search", "zs-trainer"],
        external: Some(&[
            "anyhow",
            "base64",
            "crc32c",
            "flate2",
            "indicatif",
            "minijinja",
            "parking_lot",
            "plotters",
            "prost",
            "ratatui",
            "serde",
            "serde_json",
            "signal-hook",
            "toml",
            "tracing",
            "tracing-chrome",
            "tracing-subscriber",
        ]),
    },
    Rule {
        package: "zs-reproduce",
        workspace: &[
            "zs-core",
            "zs-curriculum",
            "zs-data",
            "zs-eval",
            "zs-model",
            "zs-observe",
            "zs-rl",
            "zs-search",
            "zs-simulator",
            "zs-trainer",
            "zs-world",
        ],
        external: Some(&[
            "anyhow",
            "clap",
            "comfy-table",
            "minijinja",
            "serde",
            "serde_json",
            "statrs",
            "toml",
        ]),
    },
    Rule {
        package: "zs-train",
        workspace: &[
            "zs-core",
            "zs-curriculum",
            "zs-eval",
            "zs-model",
            "zs-observe",
            "zs-reproduce",
            "zs-rl",
            "zs-search",
            "zs-serve",
            "zs-simulator",
            "zs-trainer",
            "zs-data",
            "zs-world",
        ],
        external: None,
    },
    Rule { package: "zs-benches", workspace: EVERY_CRATE, external: None },
    Rule { package: "zs-tests", workspace: EVERY_CRATE, external: None },
    Rule { package: "xtask", workspace: &[], external: None },
];

/// Checks the edges that start at one package. Development dependencies may go to any crate but
/// those on top, since they are no part of what is published.
pub(super) fn check(package: &Package, findings: &mut Findings) {
    let name = package.name.as_str();
    let Some(rule) = RULES.iter().find(|it| it.package == name) else {
        findings.errors.push(format!("{name}: has no rule in xtask/src/tidy/edges.rs; add one"));
        return;
    };
    for dependency in &package.dependencies {
        let is_development = dependency.kind == DependencyKind::Development;
        let problem = problem(rule, &dependency.name, dependency.path.is_some(), is_development);
        findings.errors.extend(problem);
    }
}

fn problem(
    rule: &Rule,
    dependency: &str,
    is_workspace: bool,
    is_development: bool,
) -> Option<String> {
    const TOP: [&str; 4] = ["zs-train", "zs-benches", "zs-tests", "xtask"];
    let allowed = match (is_workspace, is_development) {
        (true, true) => !TOP.contains(&dependency),
        (true, false) => rule.workspace.contains(&dependency),
        (false, true) => true,
        (false, false) => rule.external.is_none_or(|external| external.contains(&dependency)),
    };
    let package = rule.package;
    (!allowed).then(|| {
        format!(
            "{package}: may not depend on {dependency}; edges are architecture, see \
             ARCHITECTURE.md and xtask/src/tidy/edges.rs"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(package: &str, dependency: &str, is_workspace: bool, is_dev: bool, allowed: bool) {
        let rule = RULES.iter().find(|it| it.package == package).unwrap();
        let problem = problem(rule, dependency, is_workspace, is_dev);
        assert_eq!(problem.is_none(), allowed, "{package} -> {dependency}");
    }

    #[test]
    fn layers_hold() {
        check("zs-rl", "zs-model", true, false, true);
        check("zs-rl", "zs-simulator", true, false, false);
        check("zs-rl", "zs-simulator", true, true, true);
        check("zs-core", "burn", false, false, false);
        check("zs-core", "proptest", false, true, true);
        check("zs-simulator", "zs-train", true, true, false);
        check("zs-search", "zs-model", true, false, false);
        check("zs-train", "anything", false, false, true);
        check("xtask", "zs-core", true, false, false);
    }

    #[test]
    fn the_rules_have_no_cycle() {
        // Rules are listed bottom up, so every edge must go to an earlier one.
        for (index, rule) in RULES.iter().enumerate() {
            for dependency in rule.workspace {
                let position = RULES.iter().position(|it| it.package == *dependency).unwrap();
                assert!(position < index, "{} -> {dependency}", rule.package);
            }
        }
    }
}
