//! Commands and run files in the documentation are accepted by `zs`.

use std::fs;
use std::path::{Path, PathBuf};

use zs_core::registry::Spec;
use zs_train::cli::Cli;
use zs_trainer::Components;
use zs_trainer::config::{TrainConfig, parse};

/// The README and everything in `docs`, with names.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders = vec![root.join("docs")];
    let mut paths = vec![root.join("README.md")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => paths.push(path),
            }
        }
    }
    let read = |it: &PathBuf| (it.display().to_string(), fs::read_to_string(it).unwrap());
    paths.iter().map(read).collect()
}

/// The fenced blocks of a language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).filter_map(|it| it.split("```").next()).collect()
}

/// The words of a command line: quotes hold words together, `#` begins a comment.
fn words(line: &str) -> Vec<String> {
    let line = line.split(" #").next().unwrap_or_default();
    let quoted = line.split('"').enumerate();
    let words = quoted.flat_map(|(i, it)| match i % 2 {
        1 => vec![it.to_owned()],
        _ => it.split_whitespace().map(str::to_owned).collect(),
    });
    words.collect()
}

#[test]
fn commands_are_understood() {
    let mut num_commands = 0;
    for (name, page) in pages() {
        for block in blocks(&page, "sh") {
            let text = block.replace("\\\n", " ");
            let commands =
                text.lines().map(words).filter(|it| it.first().is_some_and(|it| it == "zs"));
            for command in commands.filter(|it| !it.iter().any(|word| word == "...")) {
                let parsed = <Cli as clap::Parser>::try_parse_from(&command);
                assert!(parsed.is_ok(), "{name}: {command:?}: {}", parsed.unwrap_err());
                num_commands += 1;
            }
        }
    }
    assert!(num_commands > 20, "{num_commands}");
}

#[test]
fn whole_run_files_are_understood() {
    let mut num_runs = 0;
    for (name, page) in pages() {
        let runs =
            blocks(&page, "toml").into_iter().filter(|it| it.contains("[training.schedule]"));
        for text in runs.filter(|it| it.contains("policy = ")) {
            parse::<TrainConfig>(text, &name, &Components::built_in()).unwrap();
            num_runs += 1;
        }
    }
    assert!(num_runs > 0);
}

/// Every block of settings on the page of retrieval is an engine.
#[test]
fn the_page_of_retrieval_shows_engines() {
    let pages = pages();
    let page = pages.iter().find(|(name, _)| name.ends_with("docs/retrieval.md"));
    let blocks = blocks(&page.unwrap().1, "toml");
    assert!(blocks.len() > 4);
    for block in blocks {
        let tables: toml::Table = toml::from_str(block).unwrap();
        let engine: Spec = tables["engine"].clone().try_into().unwrap();
        Components::built_in().engines.resolve(&engine).unwrap();
    }
}

/// A whole run file, to which pages about parts of one are added.
const RUN: &str = "seed = 1\nout = \"runs/a\"\npolicy = \"p\"\n\
    questions = { kind = \"file\", path = \"q.jsonl\" }\nengine = { kind = \"fixed\", documents = [{ text = \"x\" }] }\n";

/// Every block of settings on the pages of algorithms is part of a run file, and those of an
/// algorithm are its defaults.
#[test]
fn pages_of_algorithms_show_what_run_files_say() {
    let registry = zs_rl::algorithm::builtin();
    let mut kinds = Vec::new();
    for (name, page) in pages().into_iter().filter(|(name, _)| name.contains("docs/algorithms/")) {
        for block in blocks(&page, "toml") {
            parse::<TrainConfig>(&format!("{RUN}{block}"), &name, &Components::built_in()).unwrap();
            let tables: toml::Table = toml::from_str(block).unwrap();
            let algorithm = tables.get("training").and_then(|it| it.get("algorithm"));
            let Some(algorithm) = algorithm else { continue };
            let shown: Spec = algorithm.clone().try_into().unwrap();
            let stem = Path::new(&name).file_stem().unwrap().to_str().unwrap().to_owned();
            assert_eq!(shown.kind, stem);
            let default = registry.resolve(&Spec::named(&stem)).unwrap();
            assert_eq!(registry.resolve(&shown).unwrap(), default, "{name}");
            kinds.push(stem);
        }
    }
    kinds.sort();
    assert_eq!(kinds, registry.kinds().collect::<Vec<_>>());
}
