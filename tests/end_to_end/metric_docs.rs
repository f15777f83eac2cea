//! `docs/metrics.md` defines every number that is logged.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{tiny_model, train_toml, zs_ok};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every key of the first columns of the tables, e.g. `reward/<name>`.
fn documented() -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let cells = page.lines().filter_map(|it| it.strip_prefix("| ")?.split(" | ").next());
    let keys = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned));
    keys.collect()
}

/// Returns true if a key is documented, literally or by a pattern.
fn is_documented(key: &str, documented: &BTreeSet<String>) -> bool {
    documented.iter().any(|it| match it.split_once('<') {
        None => it == key,
        Some((start, rest)) => {
            let end = rest.split_once('>').unwrap().1;
            let middle = key.strip_prefix(start).and_then(|it| it.strip_suffix(end));
            middle.is_some_and(|it| !it.is_empty())
        }
    })
}

/// Every `"group/name"` in the sources of the crates, tests left out.
fn in_sources() -> BTreeSet<String> {
    const GROUPS: [&str; 20] = [
        "actor",
        "alarms",
        "branch",
        "consult",
        "counterfactual",
        "critic",
        "curriculum",
        "dapo",
        "gigpo",
        "pretrain",
        "program",
        "reward",
        "rollout",
        "search",
        "servers",
        "squared_regret",
        "teacher",
        "time",
        "tuning",
        "validation",
    ];
    let mut keys = BTreeSet::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(root()).unwrap();
            let is_test = name.iter().any(|it| it.to_string_lossy().contains("tests"));
            if path.extension().is_none_or(|it| it != "rs") || is_test {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let lines = code.lines().filter(|it| !it.trim_start().starts_with("//"));
            for literal in lines.flat_map(|it| it.split('"').skip(1).step_by(2)) {
                let Some((group, name)) = literal.split_once('/') else { continue };
                let is_name = |it: char| it.is_ascii_lowercase() || "_{}<>0123456789".contains(it);
                if GROUPS.contains(&group) && !name.is_empty() && name.chars().all(is_name) {
                    keys.insert(literal.replace('{', "<").replace('}', ">"));
                }
            }
        }
    }
    keys
}

#[test]
fn every_key_in_the_sources_is_defined() {
    let documented = documented();
    let keys = in_sources();
    assert!(keys.len() > 60, "{}", keys.len());
    let missing: Vec<&String> = keys
        .iter()
        .filter(|key| !is_documented(key, &documented) && !documented.contains(*key))
        .filter(|key| !key.contains('<'))
        .collect();
    assert!(missing.is_empty(), "not in docs/metrics.md: {missing:?}");
}

/// The keys of every row of a JSON Lines file.
fn keys(path: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().map(|it| serde_json::from_str::<serde_json::Value>(it).unwrap());
    rows.flat_map(|it| it.as_object().unwrap().keys().cloned().collect::<Vec<_>>()).collect()
}

/// Runs with every algorithm, and with what adds metrics to any.
#[test]
fn every_key_of_a_run_is_defined() {
    const REWARD: &str = "[training.reward]\nkind = \"sum\"\nterms = [{ weight = 1.0, reward = { kind = \"f1\" } }, { weight = 0.1, reward = { kind = \"format\" } }]\n";
    const UPDATE: &str = "[training.update]\nllds_coef = 0.2\nadaptive_kl = { target = 0.1, horizon = 100.0 }\nimportance = { bound = { truncate = { max = 2.0 } } }\ndistillation = { kl_placement = \"loss\", episodes = \"wrong\" }\n[teacher]\nkind = \"local\"\nmodel = \"model\"\n";
    let variants = [
        "kind = \"reinforce\"\nkl_coef = 0.01",
        "kind = \"reinforce_plus_plus\"",
        "kind = \"rloo\"",
        "kind = \"grpo\"\nkl_coef = 0.01",
        "kind = \"dr_grpo\"",
        "kind = \"dapo\"\ndynamic_sampling = { max_refills = 1 }\noverlong = { max_tokens = 20, buffer = 10 }",
        "kind = \"gspo\"",
        "kind = \"cispo\"",
        "kind = \"ppo\"",
        "kind = \"gigpo\"",
        "kind = \"squared_regret\"",
        "kind = \"aipo_style\"",
        "kind = \"sapo\"",
        "kind = \"clip_cov\"",
    ];
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    let documented = documented();
    let mut logged = BTreeSet::new();
    for (index, algorithm) in variants.iter().enumerate() {
        let out = format!("r{index}");
        let update =
            if algorithm.contains("ppo") && !algorithm.contains("gigpo") { UPDATE } else { "" };
        let toml = format!(
            "{}\n[training.algorithm]\n{algorithm}\n{REWARD}{update}",
            train_toml(&out).replace("steps = 3", "steps = 1")
        );
        fs::write(dir.join("run.toml"), toml).unwrap();
        zs_ok(dir, &["train", "run.toml"]);
        for file in ["metrics.jsonl", "timings.jsonl"] {
            logged.extend(keys(&dir.join(&out).join(file)));
        }
    }
    for expected in
        ["critic/loss", "alarms/num_on", "time/prefill", "reward/f1", "actor/kl", "teacher/kl"]
    {
        assert!(logged.contains(expected), "{expected}");
    }
    let missing: Vec<&String> =
        logged.iter().filter(|it| !is_documented(it, &documented)).collect();
    assert!(missing.is_empty(), "not in docs/metrics.md: {missing:?}");
}
