//! A query never meets another question's answer, whatever episodes are in the batch, do not search,
//! or are over.

use proptest::prelude::*;
use zs_core::{
    Document, Domain, Question, SearchEngine, SearchError, SearchRequest, SearchResult, StreamKey,
};
use zs_model::testing::ScriptedGenerator;
use zs_rl::{Episode, RolloutConfig, rollout};

/// Answers with the golden answer of the request's own question; fails now and then.
#[derive(Debug)]
struct Oracle;

impl SearchEngine for Oracle {
    fn name(&self) -> &str {
        "oracle"
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let answer = |it: &SearchRequest<'_>| match it.seed % 7 {
            0 => Err(SearchError::Engine {
                engine: "oracle".to_owned(),
                query: it.query.to_owned(),
                source: "it was told to fail".into(),
            }),
            _ => Ok(vec![Document::new("", it.question.golden_answers[0].as_str())]),
        };
        requests.iter().map(answer).collect()
    }
}

/// A policy that searches, answers, or writes nonsense, as its key says.
fn policy() -> ScriptedGenerator {
    ScriptedGenerator::new(|_, key| match key.derive_seed(Domain::Sampling) % 6 {
        0 => "<answer>done</answer>".to_owned(),
        1 => "</answer>".to_owned(),
        2 => "I give up".to_owned(),
        draw => format!("<search>query {draw}</search>"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_observation_is_about_its_own_question(
        order in Just((0..20_usize).collect::<Vec<_>>()).prop_shuffle(),
        kept in 1..20_usize,
        seed in 0..1000_u64,
    ) {
        let questions: Vec<Question> = (0..20)
            .map(|it| Question::new(format!("q{it}"), format!("{it}?"), [format!("zq{it}zq")]))
            .collect();
        let episodes: Vec<Episode<'_>> = order[..kept]
            .iter()
            .map(|&it| Episode {
                question: &questions[it],
                key: StreamKey { group: it as u32, ..StreamKey::new(seed) },
            })
            .collect();
        let config = RolloutConfig {
            max_searches: 4,
            num_documents: 1,
            prompt_template: "{{ question }}|".into(),
            ..RolloutConfig::default()
        };
        let output = rollout(&policy(), &Oracle, &episodes, 0.5, &config, &mut |_| {}).unwrap();
        for (episode, trajectory) in episodes.iter().zip(&output.trajectories) {
            for turn in &trajectory.turns {
                for question in questions.iter().filter(|it| it.id != episode.question.id) {
                    prop_assert!(!turn.observation_text.contains(&question.golden_answers[0]));
                }
                if let Some(search) = turn.search.as_ref().filter(|it| it.error.is_none()) {
                    prop_assert_eq!(
                        &search.documents[0].text, &episode.question.golden_answers[0]
                    );
                }
            }
        }
    }
}
