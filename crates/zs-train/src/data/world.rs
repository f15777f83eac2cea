//! `zs data world`: the embedded world in the formats that users' own data has.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};
use zs_trainer::files::RunDir;
use zs_trainer::source;
use zs_world::{Split, World};

use crate::session::Session;

/// Arguments of `zs data world`.
#[derive(Debug, Args)]
pub struct WorldArgs {
    /// Seed of the world.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Split of the world: `train`, `validation` or `test`.
    #[arg(long, default_value = "test", value_parser = split)]
    pub split: Split,
    /// Number of questions, half of them 1-hop.
    #[arg(long, default_value_t = 1000)]
    pub questions: usize,
    /// The directory to create.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Writes `questions.jsonl`, `corpus.jsonl` and `tokenizer.json`.
pub(crate) fn data_world(args: &WorldArgs, session: &Session) -> Result<()> {
    let dir = RunDir::create(&args.out)?;
    let world = World::generate(args.seed, args.split);
    let mut questions = source::world_questions(&world, args.seed, args.questions.div_ceil(2));
    questions.truncate(args.questions);
    let open = |name: &str| -> Result<BufWriter<File>> {
        let path = dir.join(name);
        let file = File::create_new(&path)
            .with_context(|| format!("{}: cannot create", path.display()))?;
        Ok(BufWriter::new(file))
    };
    let passages = world.passages();
    zs_world::write_questions(open("questions.jsonl")?, &questions).context("questions.jsonl")?;
    zs_world::write_corpus(open("corpus.jsonl")?, &passages).context("corpus.jsonl")?;
    dir.write_text("tokenizer.json", &zs_world::tokenizer_json())?;
    session.console.note(&format!(
        "wrote {} questions and {} passages to {}",
        questions.len(),
        passages.len(),
        args.out.display()
    ));
    Ok(())
}

fn split(name: &str) -> Result<Split, Error> {
    let name: StrDeserializer<'_, Error> = name.into_deserializer();
    Split::deserialize(name)
}
