//! Allowed dependencies of each crate. A new line here is an architectural change: it goes with its
//! reason into ARCHITECTURE.md.

use cargo_metadata::{DependencyKind, Package};

use super::Findings;

/// A crate's place in the architecture. Names are separated by spaces; `*` is any.
struct Rule {
    package: &'static str,
    /// Crates of the workspace that it may depend on.
    workspace: &'static str,
    /// Crates from elsewhere that it may depend on.
    external: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        package: "zs-core",
        workspace: "",
        external: "garde rand rand_chacha serde serde_json strsim thiserror unicode-properties",
    },
    Rule { package: "zs-curriculum", workspace: "zs-core", external: "garde serde" },
    Rule {
        package: "zs-data",
        workspace: "zs-core",
        external: "backon flate2 hf-hub html5ever lopdf parquet percent-encoding pulldown-cmark \
                   secrecy serde serde_json serde_path_to_error sha1 sha2 tempfile thiserror \
                   unicode-segmentation ureq walkdir zstd",
    },
    Rule {
        package: "zs-model",
        workspace: "zs-core",
        external: "burn burn-cubecl burn-flex burn-pack bytemuck chrono cubecl cubecl-cuda gemmkit \
                   gguf-rs-lib half memmap2 minijinja minijinja-contrib multiversion parking_lot \
                   rand rand_chacha raw-cpuid rayon safetensors serde serde_json serde_path_to_error sha2 thiserror \
                   tokenizers tracing",
    },
    Rule {
        package: "zs-search",
        workspace: "zs-core zs-data",
        external: "backon flate2 garde gemmkit governor hdrhistogram heed httpdate icu_normalizer parking_lot \
                   postgres rand rand_chacha rayon secrecy serde serde_json sha2 tantivy tempfile thiserror \
                   unicode-properties ureq",
    },
    Rule {
        package: "zs-world",
        workspace: "zs-core zs-search",
        external: "rand rand_chacha serde serde_json thiserror",
    },
    Rule {
        package: "zs-simulator",
        workspace: "zs-core zs-data zs-model zs-search zs-world",
        external: "garde minijinja parking_lot rand rand_chacha rayon regex serde serde_json \
                   thiserror",
    },
    Rule {
        package: "zs-rl",
        workspace: "zs-core zs-model",
        external: "burn garde minijinja rand rand_chacha serde serde_json thiserror tracing",
    },
    Rule {
        package: "zs-eval",
        workspace: "zs-core zs-data zs-model zs-rl",
        external: "minijinja rand rand_chacha serde serde_json thiserror",
    },
    Rule {
        package: "zs-serve",
        workspace: "zs-core zs-model",
        external: "axum futures-util http-body-util hyper hyper-util prometheus-client rand serde \
                   serde_json serde_path_to_error sha2 subtle thiserror tokio",
    },
    Rule {
        package: "zs-trainer",
        workspace: "zs-core zs-curriculum zs-data zs-eval zs-model zs-rl zs-search zs-simulator \
                    zs-world",
        external: "burn comfy-table rand serde serde_json sysinfo thiserror toml toml_edit \
                   tracing vergen-gitcl walkdir zstd",
    },
    Rule {
        package: "zs-observe",
        workspace: "zs-core zs-data zs-model zs-rl zs-search zs-trainer",
        external: "base64 crc32c flate2 indicatif minijinja parking_lot plotters prost ratatui \
                   serde serde_json signal-hook thiserror toml tracing tracing-chrome \
                   tracing-subscriber",
    },
    Rule {
        package: "zs-reproduce",
        workspace: "zs-core zs-curriculum zs-data zs-eval zs-model zs-observe zs-rl zs-search \
                    zs-simulator zs-trainer zs-world",
        external: "clap comfy-table minijinja serde serde_json statrs thiserror toml",
    },
    Rule {
        package: "zs-train",
        workspace: "zs-core zs-curriculum zs-eval zs-model zs-observe zs-reproduce zs-rl \
                    zs-search zs-serve zs-simulator zs-trainer zs-data zs-world",
        external: "*",
    },
    Rule { package: "zs-benches", workspace: "*", external: "*" },
    Rule { package: "zs-tests", workspace: "*", external: "*" },
    Rule { package: "zs-fuzz", workspace: "*", external: "*" },
    Rule { package: "xtask", workspace: "", external: "*" },
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
    const TOP: [&str; 5] = ["zs-train", "zs-benches", "zs-tests", "zs-fuzz", "xtask"];
    let allowed = match (is_workspace, is_development) {
        (true, true) => !TOP.contains(&dependency),
        (true, false) => holds(rule.workspace, dependency),
        (false, true) => true,
        (false, false) => holds(rule.external, dependency),
    };
    let package = rule.package;
    (!allowed).then(|| {
        format!(
            "{package}: may not depend on {dependency}; edges are architecture, see \
             ARCHITECTURE.md and xtask/src/tidy/edges.rs"
        )
    })
}

fn holds(names: &str, name: &str) -> bool {
    names == "*" || names.split(' ').any(|it| it == name)
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
            for dependency in rule.workspace.split(' ').filter(|it| !["", "*"].contains(it)) {
                let position = RULES.iter().position(|it| it.package == dependency).unwrap();
                assert!(position < index, "{} -> {dependency}", rule.package);
            }
        }
    }
}
