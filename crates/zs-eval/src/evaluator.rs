//! Episodes played batch by batch, under any method and protocol, from any place on.

use zs_core::{Question, SearchEngine, StreamKey};
use zs_model::Generator;
use zs_rl::{Episode, RolloutConfig, Trajectory, rollout};

use crate::method::{ReadingEngine, Retrieved, template};
use crate::{EvalConfig, EvaluateError, Method, Protocol, QuestionRecord};

/// One evaluation: who plays, against what, and how it is scored.
#[derive(Clone, Copy, Debug)]
pub struct Evaluator<'a> {
    /// The model that answers.
    pub generator: &'a dyn Generator,
    /// Where it searches; methods that do not search ignore it.
    pub engine: &'a dyn SearchEngine,
    /// How episodes are played.
    pub config: &'a EvalConfig,
    /// How episodes are scored.
    pub protocol: &'a Protocol,
    /// How the model is asked; [`Method::rollout`] makes the config that goes with it.
    pub method: Method,
    /// Episodes a question; above 1 they differ where the temperature is above 0.
    pub samples: u32,
}

/// Some episodes with their scores, in the same order.
#[derive(Clone, Debug, PartialEq)]
pub struct PlayedBatch {
    /// One record an episode.
    pub records: Vec<QuestionRecord>,
    /// The episodes.
    pub trajectories: Vec<Trajectory>,
}

impl Evaluator<'_> {
    /// Plays every question `samples` times, all samples of a question in a row, and hands each batch
    /// over as it is done. The first `num_done` episodes are passed over, so an evaluation that was
    /// interrupted can go on.
    ///
    /// An episode is a function of seed, question, the question's place in the list and sample. It
    /// does not depend on the batch that it is in, with a deterministic engine.
    ///
    /// # Errors
    ///
    /// Fails without questions, on a batch size or number of samples of zero, where the rollout or a
    /// template fails, and where `on_batch` does.
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
        let noise = self.config.noise_probability;
        let config = &self.config.rollout;
        let trajectories =
            rollout(self.generator, engine, batch, noise, config, &mut |_| {})?.trajectories;
        let records = self.score(batch, &trajectories);
        Ok(PlayedBatch { records, trajectories })
    }

    fn play_with_documents(&self, batch: &[Episode<'_>]) -> Result<PlayedBatch, EvaluateError> {
        let config = &self.config.rollout;
        let template = template(&config.prompt_template)
            .map_err(|it| EvaluateError::Template { message: format!("{it:#}") })?;
        let found = Retrieved::search(self.generator, self.engine, &template, batch, config)?;
        let asked: Vec<Episode<'_>> = batch
            .iter()
            .zip(&found)
            .map(|(it, found)| Episode { question: &found.question, key: it.key })
            .collect();
        // The prompt is written already; what is left to fill in is all of it.
        let config =
            RolloutConfig { prompt_template: "{{ question }}".to_owned(), ..config.clone() };
        let output = rollout(self.generator, self.engine, &asked, 0.0, &config, &mut |_| {})?;
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
        let evaluator = Evaluator {
            generator,
            engine: &Echo,
            config: &config,
            protocol: &Protocol::strict(),
            method,
            samples,
        };
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
}
