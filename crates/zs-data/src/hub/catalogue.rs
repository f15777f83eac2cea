//! Data sets with a name, and where on the Hugging Face hub they lie.

use super::HubError;

/// Kind of a repository; it decides its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepoKind {
    /// Data set.
    Dataset,
    /// Model.
    Model,
}

/// Files of one repository that are fetched together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Name, which is also the folder in the cache.
    pub name: String,
    /// Kind of the repository.
    pub kind: RepoKind,
    /// `owner/name` on the hub.
    pub repo: String,
    /// Files, by path in the repository; none stands for all that this program reads.
    pub files: Vec<String>,
    /// Number of questions that the first file holds at full size.
    pub questions: Option<usize>,
}

const FLASHRAG: &str = "RUC-NLPIR/FlashRAG_datasets";

/// The seven test sets: name, file, questions.
const TEST_SETS: [(&str, &str, usize); 7] = [
    ("nq", "nq/test.jsonl", 3_610),
    ("triviaqa", "triviaqa/test.jsonl", 11_313),
    ("popqa", "popqa/test.jsonl", 14_267),
    ("hotpotqa", "hotpotqa/dev.jsonl", 7_405),
    ("2wiki", "2wikimultihopqa/dev.jsonl", 12_576),
    ("musique", "musique/dev.jsonl", 2_417),
    ("bamboogle", "bamboogle/test.jsonl", 125),
];

/// Everything else with a name of its own: name, repository, files.
const OTHERS: [(&str, &str, &[&str]); 4] = [
    ("train", "PeterJinGo/nq_hotpotqa_train", &["train.parquet"]),
    ("zerosearch", "Alibaba-NLP/ZeroSearch_dataset", &[]),
    ("simulation-tuning", "Alibaba-NLP/SimulationTuning_dataset", &[]),
    ("wiki-18", "PeterJinGo/wiki-18-corpus", &["wiki-18.jsonl.gz"]),
];

/// Looks up a name: one set, `test-sets` for all seven, `all` for everything with a name, or
/// `dataset:OWNER/NAME` and `model:OWNER/NAME` for any repository.
///
/// # Errors
///
/// Fails on a name that is none of these.
///
/// ```
/// let items = zs_data::hub::items("bamboogle")?;
/// assert_eq!((items[0].files[0].as_str(), items[0].questions), ("bamboogle/test.jsonl", Some(125)));
/// # Ok::<(), zs_data::hub::HubError>(())
/// ```
pub fn items(name: &str) -> Result<Vec<Item>, HubError> {
    let test_set = |&(name, file, questions): &(&str, &str, usize)| Item {
        name: name.to_owned(),
        kind: RepoKind::Dataset,
        repo: FLASHRAG.to_owned(),
        files: vec![file.to_owned()],
        questions: Some(questions),
    };
    if name == "all" {
        let names = std::iter::once("test-sets").chain(OTHERS.iter().map(|it| it.0));
        let items = names.map(items).collect::<Result<Vec<_>, _>>()?;
        return Ok(items.into_iter().flatten().collect());
    }
    if name == "test-sets" {
        return Ok(TEST_SETS.iter().map(test_set).collect());
    }
    if let Some(found) = TEST_SETS.iter().find(|it| it.0 == name) {
        return Ok(vec![test_set(found)]);
    }
    let any = |name: &str, kind, repo: &str, files: &[&str]| Item {
        name: name.to_owned(),
        kind,
        repo: repo.to_owned(),
        files: files.iter().map(|&it| it.to_owned()).collect(),
        questions: None,
    };
    if let Some((name, repo, files)) = OTHERS.iter().find(|it| it.0 == name) {
        return Ok(vec![any(name, RepoKind::Dataset, repo, files)]);
    }
    let (kind, repo) = match name.split_once(':') {
        Some(("dataset", repo)) => (RepoKind::Dataset, repo),
        Some(("model", repo)) => (RepoKind::Model, repo),
        _ => return Err(HubError::UnknownName { name: name.to_owned(), known: names() }),
    };
    let is_plain =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['/', '\\']);
    match repo.split_once('/') {
        Some((owner, base)) if is_plain(owner) && is_plain(base) => {
            Ok(vec![any(&repo.replace('/', "--"), kind, repo, &[])])
        }
        _ => Err(HubError::NotARepository { name: name.to_owned() }),
    }
}

fn names() -> Vec<&'static str> {
    let sets = TEST_SETS.iter().map(|it| it.0);
    let others = OTHERS.iter().map(|it| it.0);
    let any = ["test-sets", "all", "dataset:OWNER/NAME", "model:OWNER/NAME"];
    sets.chain(others).chain(any).collect()
}

/// Tells the files that this program reads from others, e.g. weights in other formats.
pub(super) fn is_useful(kind: RepoKind, path: &str) -> bool {
    let has =
        |extensions: &[&str]| extensions.iter().any(|it| path.to_ascii_lowercase().ends_with(it));
    match kind {
        RepoKind::Dataset => has(&[
            ".parquet",
            ".jsonl",
            ".json",
            ".csv",
            ".tsv",
            ".jsonl.gz",
            ".json.gz",
            ".tsv.gz",
            ".csv.gz",
        ]),
        RepoKind::Model => MODEL_FILES.contains(&path) || is_shard(path),
    }
}

/// Files of a model directory that loaders read, apart from shards of weights.
const MODEL_FILES: [&str; 13] = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
];

/// Tells a shard of weights, e.g. `model-00001-of-00002.safetensors`; not the same weights in the
/// layout of another program (`consolidated.safetensors`), or in another precision.
fn is_shard(path: &str) -> bool {
    let numbers = path.strip_prefix("model-").and_then(|it| it.strip_suffix(".safetensors"));
    let parts = numbers.and_then(|it| it.split_once("-of-"));
    let is_number = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
    parts.is_some_and(|(index, count)| is_number(index) && is_number(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_files() {
        assert_eq!(items("test-sets").unwrap().len(), 7);
        assert_eq!(items("all").unwrap().len(), 11);
        let nq = items("nq").unwrap().remove(0);
        assert_eq!((nq.files, nq.questions), (vec!["nq/test.jsonl".to_owned()], Some(3610)));
        let model = items("model:Qwen/Qwen2.5-3B").unwrap().remove(0);
        assert_eq!((model.kind, &model.name[..]), (RepoKind::Model, "Qwen--Qwen2.5-3B"));
        for wrong in ["natural questions", "model:x", "model:../x", "dataset:a/b/c"] {
            assert!(items(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn weights_in_other_formats_are_left_where_they_are() {
        for (path, expected) in [
            ("config.json", true),
            ("model-00001-of-00002.safetensors", true),
            ("pytorch_model.bin", false),
            ("model.safetensors", true),
            ("chat_template.jinja", true),
            ("merges.txt", true),
            ("original/params.json", false),
            ("consolidated.safetensors", false),
            ("model.fp16.safetensors", false),
            ("model-00001-of-00002.fp16.safetensors", false),
            ("onnx_config.json", false),
        ] {
            assert_eq!(is_useful(RepoKind::Model, path), expected, "{path}");
        }
        assert!(is_useful(RepoKind::Dataset, "data/train.parquet"));
        assert!(!is_useful(RepoKind::Dataset, "README.md"));
    }
}
