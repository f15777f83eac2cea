//! Pairs of a simulation prompt and the documents that a search engine gives.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use zs_core::{Document, DocumentQuality};
use zs_world::{
    DOCUMENTS_PER_SEARCH, Example, QueryMix, SimulationCase, World, WorldQuestion, simulation_case,
};

use crate::{SimulationPrompt, SimulationTemplates, TemplateError};

/// The training example of a [`simulation_case`] of any hop.
///
/// `follow` is the probability that the prompt names the quality which the documents have;
/// otherwise it names any. A base model is trained with a low value, so that it has yet to be tuned
/// to follow the instruction.
///
/// # Errors
///
/// Fails when a template does.
pub fn simulation_example(
    world: &World,
    question: &WorldQuestion,
    templates: &SimulationTemplates,
    follow: f64,
    rng: &mut ChaCha8Rng,
) -> Result<Example, TemplateError> {
    let hop = rng.random_range(0..question.chain.len());
    let case = simulation_case(world, question, hop, &QueryMix::default(), rng);
    let named = match rng.random_bool(follow.clamp(0.0, 1.0)) {
        true => case.quality,
        false if rng.random_bool(0.5) => DocumentQuality::Useful,
        false => DocumentQuality::Noisy,
    };
    case_example(question, &SimulationCase { quality: named, ..case }, templates, 1.0, rng)
}

/// Prompt and reply of one case.
///
/// One document of a reply always carries loss: the one that states the queried fact, or else the
/// first, where a simulator that ignores the query would state it. The others do with probability
/// `distractor_loss`: most of their tokens are names that nothing predicts, whose noise drowns the
/// few tokens that copy subject and answer.
pub(crate) fn case_example(
    question: &WorldQuestion,
    case: &SimulationCase,
    templates: &SimulationTemplates,
    distractor_loss: f64,
    rng: &mut ChaCha8Rng,
) -> Result<Example, TemplateError> {
    let question = &question.question;
    let prompt = SimulationPrompt {
        question: &question.text,
        golden_answers: &question.golden_answers,
        query: &case.query,
        k: DOCUMENTS_PER_SEARCH,
    };
    let mut example = Example::ending();
    example.show(templates.render(case.quality, &prompt)?);
    let key = case.documents.iter().position(|it| it.supports).unwrap_or(0);
    for (index, it) in case.documents.iter().enumerate() {
        // Passages of a world name their subject themselves.
        let line = render_line(index, "", &it.document.text);
        // No number is drawn where the outcome is certain.
        if index == key || distractor_loss >= 1.0 || rng.random_bool(distractor_loss.max(0.0)) {
            example.learn(line);
        } else {
            example.show(line);
        }
    }
    Ok(example)
}

/// Documents as a simulation LLM writes them, on a line each: `Doc 1: …`, or with a title
/// `Doc 1(Title: "…") …`, as Search-R1 shows documents.
pub(crate) fn render_reply(documents: &[Document]) -> String {
    let numbered = documents.iter().enumerate();
    numbered.map(|(index, it)| render_line(index, &it.title, &it.text)).collect()
}

fn render_line(index: usize, title: &str, text: &str) -> String {
    // A line break inside of a document would read as the start of the next.
    let one_line = |it: &str| it.split_whitespace().collect::<Vec<_>>().join(" ");
    let (number, title, text) = (index + 1, one_line(title), one_line(text));
    match title.as_str() {
        "" => format!("Doc {number}: {text}\n"),
        title => format!("Doc {number}(Title: \"{title}\") {text}\n"),
    }
}

#[cfg(test)]
mod tests {
    use zs_core::{Domain, StreamKey};
    use zs_world::Split;

    use super::*;
    use crate::pretraining::{encode_example, world_tokenizer};

    #[test]
    fn only_the_documents_are_learned() {
        let world = World::generate(4, Split::Train);
        let mut rng = StreamKey::new(5).rng(Domain::Corpus);
        let question = &world.questions(0, 2, 1)[0];
        let templates = SimulationTemplates::tiny();
        let example = simulation_example(&world, question, &templates, 1.0, &mut rng).unwrap();
        let row = encode_example(&example, &world_tokenizer(), 2).unwrap();
        let first = row.loss_mask.iter().position(|it| *it).unwrap();
        assert!(row.loss_mask[first..].iter().all(|it| *it));
        let case = simulation_case(&world, question, 1, &QueryMix::default(), &mut rng);
        let focused = case_example(question, &case, &templates, 0.0, &mut rng).unwrap();
        let learned: Vec<bool> = focused.segments[1..].iter().map(|it| it.learned).collect();
        assert_eq!(learned.iter().filter(|it| **it).count(), 1);
        let supports = case.documents.iter().position(|it| it.supports);
        assert_eq!(learned.iter().position(|it| *it), supports.or(Some(0)));
        let reply = world_tokenizer().decode(&row.tokens[first..]);
        assert!(reply.starts_with("Doc 1: "), "{reply}");
        assert_eq!(row.tokens.last(), Some(&2));
    }
}
