//! `zs data world`: an embedded world in the formats that users' own data has.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};
use zs_trainer::files::RunDir;
use zs_world::{Difficulty, Measure, Split, World, WorldPreset, WorldQuestion, measure};

use crate::report_table::table;
use crate::session::Session;

/// Share of the questions that an oracle must answer in a fair world.
const MIN_ORACLE: f64 = 0.97;

/// Arguments of `zs data world`.
#[derive(Debug, Args)]
pub struct WorldArgs {
    /// World: `easy` (one fact per passage, 1 and 2 hops) or `hard` (docs/worlds.md).
    #[arg(long, default_value = "easy", value_parser = named::<WorldPreset>)]
    pub world: WorldPreset,
    /// Seed of the world.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Split of the world: `train`, `validation` or `test`.
    #[arg(long, default_value = "test", value_parser = named::<Split>)]
    pub split: Split,
    /// Number of questions; in an easy world, half of them are 1-hop.
    #[arg(long, default_value_t = 1000)]
    pub questions: usize,
    /// Number of passages of a hard world, 1,000 to 100,000 [default: 20000].
    #[arg(long, value_name = "N")]
    pub passages: Option<usize>,
    /// Difficulty of a hard world: a TOML file with the settings that differ from the default.
    #[arg(long, value_name = "FILE")]
    pub difficulty: Option<PathBuf>,
    /// Also measure the scores of an oracle and of guesses on the questions: `measure.json`.
    #[arg(long)]
    pub measure: bool,
    /// The directory to create.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Writes `questions.jsonl`, `corpus.jsonl` and `tokenizer.json`; of a hard world `chains.jsonl` and
/// `difficulty.toml` too.
///
/// # Errors
///
/// Fails, after writing, where an oracle answers too few questions of a world that is measured.
pub(crate) fn data_world(args: &WorldArgs, session: &Session) -> Result<()> {
    let difficulty = difficulty(args)?;
    let world = match &difficulty {
        None => World::generate(args.seed, args.split),
        Some(difficulty) => World::hard(args.seed, args.split, difficulty)?,
    };
    let dir = RunDir::create(&args.out)?;
    let questions = world.mixed_questions(args.seed, args.questions);
    write(&dir, &world, &questions)?;
    if let Some(difficulty) = &difficulty {
        dir.write_text("difficulty.toml", &toml::to_string(difficulty)?)?;
        let chains = create(&dir, "chains.jsonl")?;
        zs_world::write_chains(chains, &world, &questions).context("chains.jsonl")?;
    }
    session.console.note(&format!(
        "wrote {} questions and {} passages to {}",
        questions.len(),
        world.num_passages(),
        args.out.display()
    ));
    if args.measure {
        let measure = measure(&world, args.seed, args.questions);
        dir.write_text("measure.json", &format!("{:#}\n", serde_json::json!(measure)))?;
        session.print(&text(&measure));
        if measure.oracle < MIN_ORACLE {
            bail!(
                "an oracle answers {:.3} of the questions, below {MIN_ORACLE}: BM25 misses too many \
                 passages; lower `aliases`, `namesakes` or `stale` in the difficulty",
                measure.oracle
            );
        }
    }
    Ok(())
}

/// The difficulty of a hard world; `None` for an easy one.
fn difficulty(args: &WorldArgs) -> Result<Option<Difficulty>> {
    if args.world == WorldPreset::Easy {
        if args.passages.is_some() || args.difficulty.is_some() {
            bail!(
                "an easy world has no difficulty; set --world hard, or leave --passages and --difficulty out"
            );
        }
        return Ok(None);
    }
    let mut difficulty = match &args.difficulty {
        None => Difficulty::default(),
        Some(path) => {
            let place = || path.display().to_string();
            let text = std::fs::read_to_string(path).with_context(place)?;
            toml::from_str(&text).with_context(place)?
        }
    };
    difficulty.passages = args.passages.unwrap_or(difficulty.passages);
    Ok(Some(difficulty))
}

fn write(dir: &RunDir, world: &World, questions: &[WorldQuestion]) -> Result<()> {
    let plain = questions.iter().map(|it| &it.question);
    zs_world::write_questions(create(dir, "questions.jsonl")?, plain).context("questions.jsonl")?;
    let passages = (0..world.num_passages()).map(|it| world.passage(it));
    zs_world::write_corpus(create(dir, "corpus.jsonl")?, passages).context("corpus.jsonl")?;
    dir.write_text("tokenizer.json", &world.preset().tokenizer_json())?;
    Ok(())
}

fn create(dir: &RunDir, name: &str) -> Result<BufWriter<File>> {
    let path = dir.join(name);
    let file =
        File::create_new(&path).with_context(|| format!("{}: cannot create", path.display()))?;
    Ok(BufWriter::new(file))
}

fn text(measure: &Measure) -> String {
    let mut rows = table(["type", "hops", "questions", "oracle", "guess", "chance"]);
    let share = |it: f64| format!("{it:.3}");
    for it in &measure.kinds {
        rows.add_row([
            it.kind.word().to_owned(),
            it.hops.to_string(),
            it.questions.to_string(),
            share(it.oracle),
            share(it.guess),
            it.chance.map_or_else(|| "–".to_owned(), share),
        ]);
    }
    let all = [measure.oracle, measure.guess].map(share);
    let [oracle, guess] = all;
    let questions = measure.questions.to_string();
    rows.add_row(["all".to_owned(), String::new(), questions, oracle, guess, "–".to_owned()]);
    format!("{rows}\nguesses of kinds without a chance: {:.3}\n", measure.open_guess)
}

/// A value of an enumeration by its name in files.
fn named<T: DeserializeOwned>(name: &str) -> Result<T, Error> {
    let name: StrDeserializer<'_, Error> = name.into_deserializer();
    T::deserialize(name)
}
