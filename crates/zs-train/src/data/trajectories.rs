//! `zs data trajectories`: episodes for a policy to imitate.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use zs_core::Question;
use zs_trainer::engines;
use zs_trainer::trajectories::{
    TrajectoryManifest, TrajectorySettings, TrajectorySource, build_trajectories,
};

use crate::command::EngineArgs;
use crate::session::Session;

/// Arguments of `zs data trajectories`.
#[derive(Debug, Args)]
pub struct TrajectoriesArgs {
    /// Recorded searches (JSON Lines, `.gz` or plain): episodes with the searches up to the first one
    /// that finds a golden answer.
    #[arg(long, value_name = "FILE", num_args = 1.., group = "trajectory_source")]
    pub turns: Vec<PathBuf>,
    /// Whole episodes, of `zs eval`, `zs train` or other programs: keeps those that pass the limits.
    #[arg(long, value_name = "FILE", num_args = 1.., group = "trajectory_source")]
    pub from: Vec<PathBuf>,
    /// Questions to search an engine for; or, with `--from`, the questions that its episodes name by
    /// id.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub questions: Vec<PathBuf>,
    /// Search engine.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Files of questions to exclude, such as test sets.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub exclude: Vec<PathBuf>,
    /// Output directory of the set.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Documents per search.
    #[arg(long, default_value_t = 3)]
    pub k: usize,
    /// Keep this many words of each document.
    #[arg(long, value_name = "WORDS")]
    pub document_words: Option<usize>,
    /// Minimum number of searches of an episode of `--from`.
    #[arg(long, default_value_t = 1)]
    pub min_searches: usize,
    /// Maximum number of searches of an episode.
    #[arg(long, default_value_t = 3)]
    pub max_searches: usize,
    /// Maximum number of words of an answer that is copied from documents.
    #[arg(long, value_name = "WORDS", default_value_t = 8)]
    pub max_answer_words: usize,
    /// Maximum number of words of a recorded query.
    #[arg(long, value_name = "WORDS", default_value_t = 20)]
    pub max_query_words: usize,
    /// Minimum F1 of an episode of `--from`.
    #[arg(long, default_value_t = 1.0)]
    pub min_f1: f64,
    /// Maximum number of episodes per question, each with different queries.
    #[arg(long, default_value_t = 4)]
    pub per_question: usize,
    /// Fraction of questions held out for the validation loss.
    #[arg(long, default_value_t = 0.05)]
    pub validation_share: f64,
    /// Seed of the split and of searches.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Builds a set and prints what is in it.
///
/// # Errors
///
/// Fails on arguments that do not go together, and as [`build_trajectories`].
pub(crate) fn data_trajectories(args: &TrajectoriesArgs, session: &Session) -> Result<()> {
    let settings = args.settings()?;
    let questions = || -> Result<Vec<Question>> {
        let read = args.questions.iter().map(|it| session.read_questions(it));
        Ok(read.collect::<Result<Vec<_>, _>>()?.concat())
    };
    let build = |source: &TrajectorySource<'_>, progress: &mut dyn FnMut(usize)| {
        build_trajectories(source, &settings, progress)
    };
    let engine = args.engine.spec(&session.components)?;
    let manifest = match (&args.turns[..], &args.from[..], engine) {
        ([_, ..], [], None) if args.questions.is_empty() => {
            build(&TrajectorySource::Turns(&args.turns), &mut |_| {})?
        }
        ([], [_, ..], None) => {
            let questions = questions()?;
            let source = TrajectorySource::Played { files: &args.from, questions: &questions };
            build(&source, &mut |_| {})?
        }
        ([], [], Some(spec)) if !args.questions.is_empty() => {
            let engine = engines::open_alone(&spec, &session.context()?)?;
            let questions = questions()?;
            let inputs = args.questions.iter().chain(&args.engine.corpus).cloned().collect();
            let source = TrajectorySource::Questions {
                questions: &questions,
                engine: engine.as_ref(),
                inputs,
            };
            let progress = session.console.progress("searching", questions.len());
            let manifest = build(&source, &mut |steps| progress.advance(steps, ""))?;
            progress.finish(&format!("{} questions", questions.len()));
            manifest
        }
        _ => bail!(
            "give one source: `--turns FILE`; `--from FILE`, with `--questions FILE` for episodes of \
             `zs eval`; or `--questions FILE` with `--corpus`, `--index`, `--simulator` or `--engine`"
        ),
    };
    session.print(&format!("{}\n", summary(&manifest)));
    Ok(())
}

impl TrajectoriesArgs {
    fn settings(&self) -> Result<TrajectorySettings> {
        for (name, value) in [
            ("k", self.k),
            ("max-searches", self.max_searches),
            ("per-question", self.per_question),
            ("document-words", self.document_words.unwrap_or(1)),
        ] {
            if value == 0 {
                bail!("--{name} must be at least 1");
            }
        }
        if !(0.0..1.0).contains(&self.validation_share) {
            bail!("--validation-share must be in [0, 1), is {}", self.validation_share);
        }
        if !(0.0..=1.0).contains(&self.min_f1) {
            bail!("--min-f1 must be in [0, 1], is {}", self.min_f1);
        }
        Ok(TrajectorySettings {
            out: self.out.clone(),
            exclude: self.exclude.clone(),
            num_documents: self.k,
            document_words: self.document_words,
            min_searches: self.min_searches,
            max_searches: self.max_searches,
            max_answer_words: self.max_answer_words,
            max_query_words: self.max_query_words,
            min_f1: self.min_f1,
            per_question: self.per_question,
            validation_share: self.validation_share,
            seed: self.seed,
        })
    }
}

fn summary(manifest: &TrajectoryManifest) -> String {
    let mut lines = vec![format!("read: {}", manifest.num_read)];
    for (reason, count) in manifest.dropped.iter() {
        lines.push(format!("  dropped, {reason}: {count}"));
    }
    for it in &manifest.excluded {
        let (path, questions, dropped) = (it.path.display(), it.questions, it.dropped);
        lines.push(format!("  {dropped} of them are among the {questions} questions of {path}"));
    }
    for (name, part) in &manifest.parts {
        let by_searches: Vec<String> = part
            .by_searches
            .iter()
            .map(|(searches, count)| format!("{count} with {searches} searches"))
            .collect();
        let (episodes, questions) = (part.episodes, part.questions);
        let by_searches = by_searches.join(", ");
        lines.push(format!("{name}: {episodes} episodes of {questions} questions ({by_searches})"));
    }
    lines.join("\n")
}
