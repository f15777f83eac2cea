//! Batches of episodes under any method and protocol, from any episode on.

use zs_core::{Question, SearchEngine, StreamKey};
use zs_model::Generator;
use zs_rl::consult::HelperRegistry;
use zs_rl::program::Harness;
use zs_rl::{
    Episode, PlayedEpisode, ReplacedDocuments, Rollout, RolloutConfig, RolloutStats, Trajectory,
};

use crate::method::{PromptTemplate, ReadingEngine, Retrieved};
use crate::{
    EvalConfig, EvalProgress, EvaluateError, Evaluation, EvaluationReport, Method, Protocol,
    QuestionRecord,
};

/// An evaluation: model, engine, method and protocol.
#[derive(Clone, Copy, Debug)]
pub struct Evaluator<'a> {
    /// The model that answers.
    pub generator: &'a dyn Generator,
    /// The engine that it searches with; methods that do not search ignore it.
    pub engine: &'a dyn SearchEngine,
    /// Settings of the evaluation.
    pub config: &'a EvalConfig,
    /// The protocol that scores episodes.
    pub protocol: &'a Protocol,
    /// The method of prompting; [`Method::rollout`] returns the matching rollout config.
    pub method: Method,
    /// Episodes per question; they differ when the temperature is above 0.
    pub samples: u32,
    /// Program functions; without them, those that the config names, out of the built-in ones.
    pub harness: Option<&'a Harness>,
    /// Helper models that the policy may consult; `None` disables consultation.
    pub consultants: Option<&'a HelperRegistry>,
    /// Documents with which every search is replaced in turn, to see which searches mattered; each costs
    /// one more end of the episode. None by default; methods that search before the episode ignore it.
    pub replaced_documents: &'a [ReplacedDocuments],
}

/// Episodes and their scores, in the same order.
#[derive(Clone, Debug, PartialEq)]
pub struct PlayedBatch {
    /// One record per episode.
    pub records: Vec<QuestionRecord>,
    /// The episodes.
    pub trajectories: Vec<Trajectory>,
}

impl<'a> Evaluator<'a> {
    /// Creates an evaluation of one episode per question under [`Method::Trained`], without program
    /// functions but the built-in ones that the config names, and without helper models.
    #[must_use]
    pub fn new(
        generator: &'a dyn Generator,
        engine: &'a dyn SearchEngine,
        config: &'a EvalConfig,
        protocol: &'a Protocol,
    ) -> Self {
        Self {
            generator,
            engine,
            config,
            protocol,
            method: Method::Trained,
            samples: 1,
            harness: None,
            consultants: None,
            replaced_documents: &[],
        }
    }

    /// Plays every question and summarises the records.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn evaluate(
        &self,
        questions: &[Question],
        progress: &mut dyn FnMut(EvalProgress),
    ) -> Result<Evaluation, EvaluateError> {
        let mut trajectories = Vec::with_capacity(questions.len());
        let mut records: Vec<QuestionRecord> = Vec::with_capacity(questions.len());
        self.run(questions, 0, &mut |batch: PlayedBatch| {
            records.extend(batch.records);
            trajectories.extend(batch.trajectories);
            progress(EvalProgress {
                num_done: records.len(),
                num_exact: records.iter().filter(|it| it.exact_match).count(),
                num_questions: questions.len(),
            });
            Ok::<(), EvaluateError>(())
        })?;
        Ok(Evaluation {
            stats: RolloutStats::of(&trajectories),
            report: EvaluationReport::new(&records, self.config.seed)?,
            records,
            trajectories,
        })
    }

    /// Plays every question `samples` times, all samples of a question in a row, and passes each
    /// finished batch to `on_batch`. The first `num_done` episodes are skipped, so that an interrupted
    /// evaluation can resume.
    ///
    /// An episode is a function of seed, question, the question's position in the list and sample. With
    /// a deterministic engine it does not depend on its batch.
    ///
    /// # Errors
    ///
    /// Fails without questions, on a batch size or number of samples of zero, and when the rollout, a
    /// template or `on_batch` fails.
    pub fn run<E: From<EvaluateError>>(
        &self,
        questions: &[Question],
        num_done: usize,
        on_batch: &mut dyn FnMut(PlayedBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        if questions.is_empty() {
            return Err(EvaluateError::NoQuestions.into());
        }
        if self.config.batch_size == 0 {
            return Err(EvaluateError::BatchSize.into());
        }
        if self.samples == 0 {
            return Err(EvaluateError::Samples.into());
        }
        let episodes: Vec<Episode<'_>> = (0_u32..)
            .zip(questions)
            .flat_map(|(group, question)| {
                let key = StreamKey { group, ..StreamKey::new(self.config.seed) };
                (0..self.samples)
                    .map(move |sample| Episode { question, key: StreamKey { sample, ..key } })
            })
            .skip(num_done)
            .collect();
        for batch in episodes.chunks(self.config.batch_size) {
            on_batch(self.play(batch)?)?;
        }
        Ok(())
    }

    fn play(&self, batch: &[Episode<'_>]) -> Result<PlayedBatch, EvaluateError> {
        let rollout_config = &self.config.rollout;
        match self.method {
            Method::Rag => self.play_with_documents(batch),
            Method::SearchO1 => {
                let titles = rollout_config.document_titles;
                let max_new_tokens = rollout_config.max_new_tokens;
                let engine =
                    ReadingEngine::new(self.engine, self.generator, max_new_tokens, titles)?;
                self.play_on(&engine, batch)
            }
            _ => self.play_on(self.engine, batch),
        }
    }

    fn play_on(
        &self,
        engine: &dyn SearchEngine,
        batch: &[Episode<'_>],
    ) -> Result<PlayedBatch, EvaluateError> {
        let rollout = Rollout {
            noise_probability: self.config.noise_probability.into(),
            harness: self.harness,
            consultants: self.consultants,
            ..Rollout::new(self.generator, engine, &self.config.rollout)
        };
        let mut trajectories = rollout.play(batch, &mut |_| {})?.trajectories;
        if !self.replaced_documents.is_empty() {
            let played = batch.iter().zip(&trajectories);
            let played: Vec<PlayedEpisode<'_>> =
                played.map(|(episode, it)| PlayedEpisode::new(*episode, it)).collect();
            let ends = rollout.counterfactuals(&played, self.replaced_documents)?;
            for (trajectory, ends) in trajectories.iter_mut().zip(ends) {
                trajectory.counterfactuals = ends;
            }
        }
        let records = self.score(batch, &trajectories);
        Ok(PlayedBatch { records, trajectories })
    }

    fn play_with_documents(&self, batch: &[Episode<'_>]) -> Result<PlayedBatch, EvaluateError> {
        let config = &self.config.rollout;
        let template = PromptTemplate::new(&config.prompt_template, config.document_titles)?;
        let found = Retrieved::search(self.generator, self.engine, &template, batch, config)?;
        let episodes: Vec<Episode<'_>> = batch
            .iter()
            .zip(&found)
            .map(|(it, found)| Episode { question: &found.question, key: it.key })
            .collect();
        // The text of each question is the rendered prompt.
        let config =
            RolloutConfig { prompt_template: "{{ question }}".to_owned(), ..config.clone() };
        let rollout =
            Rollout { harness: self.harness, ..Rollout::new(self.generator, self.engine, &config) };
        let output = rollout.play(&episodes, &mut |_| {})?;
        let mut records = self.score(batch, &output.trajectories);
        for ((record, found), episode) in records.iter_mut().zip(&found).zip(batch) {
            record.count_search(episode.question, &found.documents, found.error.is_some());
        }
        Ok(PlayedBatch { records, trajectories: output.trajectories })
    }

    fn score(&self, batch: &[Episode<'_>], trajectories: &[Trajectory]) -> Vec<QuestionRecord> {
        batch
            .iter()
            .zip(trajectories)
            .map(|(episode, trajectory)| {
                let prompt = self.generator.tokenizer().decode_with_special(&trajectory.prompt);
                QuestionRecord {
                    sample: episode.key.sample,
                    ..QuestionRecord::of_trajectory(
                        episode.question,
                        trajectory,
                        &prompt,
                        self.protocol,
                    )
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use zs_core::{Document, SearchRequest, SearchResult};
    use zs_model::testing::ScriptedGenerator;

    use super::*;

    /// Answers every query with two documents that name it.
    #[derive(Debug)]
    struct Echo;

    impl SearchEngine for Echo {
        fn name(&self) -> &'static str {
            "echo"
        }

        fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
            let found = |it: &SearchRequest<'_>| {
                vec![
                    Document::new("T", format!("[{}]", it.query)),
                    Document::new("U", "x".repeat(400)),
                ]
            };
            requests.iter().map(|it| Ok(found(it))).collect()
        }
    }

    fn questions() -> Vec<Question> {
        let titles = vec!["T".to_owned(), "V".to_owned()];
        ["Rome", "Oslo", "Bern"]
            .map(|it| Question { gold_titles: titles.clone(), ..Question::new(it, it, [it]) })
            .into()
    }

    fn play(
        generator: &ScriptedGenerator,
        method: Method,
        samples: u32,
        num_done: usize,
    ) -> Vec<PlayedBatch> {
        let rollout = method.rollout(EvalConfig::default().rollout);
        let config = EvalConfig { rollout, batch_size: 2, ..EvalConfig::default() };
        let protocol = Protocol::strict();
        let evaluator =
            Evaluator { method, samples, ..Evaluator::new(generator, &Echo, &config, &protocol) };
        let mut batches = Vec::new();
        evaluator
            .run(&questions(), num_done, &mut |batch| {
                batches.push(batch);
                Ok::<_, EvaluateError>(())
            })
            .unwrap();
        batches
    }

    fn records(batches: Vec<PlayedBatch>) -> Vec<QuestionRecord> {
        batches.into_iter().flat_map(|it| it.records).collect()
    }

    /// Copies what stands in brackets.
    fn copier() -> ScriptedGenerator {
        ScriptedGenerator::new(|text, _| {
            let copied = text.split('[').nth(1).and_then(|it| it.split(']').next());
            match copied {
                Some(it) => format!("<answer>{it}</answer>"),
                None if text.contains("<search>") => "<search> Rome </search>".to_owned(),
                None => "<answer>?</answer>".to_owned(),
            }
        })
    }

    #[test]
    fn documents_are_in_the_prompt_of_rag() {
        let records = records(play(&copier(), Method::Rag, 1, 0));
        assert!(records.iter().all(|it| it.exact_match && it.num_searches == 1));
        assert_eq!(records[0].retrieval_recall, Some(0.5));
        assert_eq!(records[0].num_turns, 1);
    }

    #[test]
    fn rag_gives_up_documents_and_never_the_question() {
        let generator = copier().with_context_length(600);
        let batches = play(&generator, Method::Rag, 1, 0);
        let prompt = generator.tokenizer().decode(&batches[0].trajectories[0].prompt);
        assert!(prompt.contains("[Rome]") && prompt.ends_with("Question: Rome\n"), "{prompt}");
        assert!(!prompt.contains("xxx"), "{prompt}");
    }

    #[test]
    fn methods_without_search_never_search() {
        for method in [Method::Direct, Method::Cot, Method::R1] {
            let records = records(play(&copier(), method, 1, 0));
            assert!(records.iter().all(|it| it.num_searches == 0 && !it.exact_match), "{method}");
        }
    }

    #[test]
    fn what_is_found_is_read_before_it_is_shown() {
        let reader = ScriptedGenerator::new(|text, _| match text {
            it if it.contains("What helps:") => "the reader's words".to_owned(),
            it if it.contains("the reader's words") => "<answer> Rome </answer>".to_owned(),
            _ => "<search> capital </search>".to_owned(),
        });
        let batches = play(&reader, Method::SearchO1, 1, 0);
        let first = &batches[0].trajectories[0];
        assert!(first.turns[0].observation_text.contains("Doc 1: the reader's words"));
        assert!(!first.turns[0].observation_text.contains("[capital]"));
        assert!(batches[0].records[0].exact_match);
    }

    #[test]
    fn an_interrupted_evaluation_goes_on_where_it_stopped() {
        let generator = ScriptedGenerator::new(|_, key| format!("<answer>{key:?}</answer>"));
        let whole = records(play(&generator, Method::Direct, 2, 0));
        assert_eq!(whole.iter().map(|it| it.sample).collect::<Vec<_>>(), [0, 1, 0, 1, 0, 1]);
        for num_done in 0..=6 {
            let rest = records(play(&generator, Method::Direct, 2, num_done));
            assert_eq!(rest, whole[num_done..]);
        }
    }

    #[test]
    fn searches_that_mattered_are_counted() {
        // Rome where a document is read, else nothing.
        let policy = ScriptedGenerator::new(|text, _| {
            let words = match (text.contains("<search>"), text.contains("Doc 1")) {
                (false, _) => "<search> capital </search>",
                (true, true) => "<answer> Rome </answer>",
                (true, false) => "<answer> unknown </answer>",
            };
            words.to_owned()
        });
        let prompt_template = "{{ question }}|".to_owned();
        let rollout = RolloutConfig { prompt_template, ..EvalConfig::default().rollout };
        let config = EvalConfig { rollout, batch_size: 2, ..EvalConfig::default() };
        let protocol = Protocol::strict();
        let evaluator = Evaluator::new(&policy, &Echo, &config, &protocol);
        let plain = evaluator.evaluate(&questions(), &mut |_| {}).unwrap();
        assert_eq!(plain.report.overall.searches_mattered, None);
        let with = Evaluator { replaced_documents: &[ReplacedDocuments::None], ..evaluator };
        let valued = with.evaluate(&questions(), &mut |_| {}).unwrap();
        // The search for Rome mattered; for Oslo and Bern, both answers are wrong.
        let counts: Vec<(usize, usize)> = valued
            .records
            .iter()
            .map(|it| (it.num_searches_valued, it.num_searches_mattered))
            .collect();
        assert_eq!(counts, [(1, 1), (1, 0), (1, 0)]);
        let share = valued.report.overall.searches_mattered.unwrap().mean;
        assert!((share - 1.0 / 3.0).abs() < 1e-9, "{share}");
        assert_eq!(valued.trajectories[0].counterfactuals[0].answer.as_deref(), Some("unknown"));
        assert_eq!(plain.report.overall.exact_match, valued.report.overall.exact_match);
    }
}
