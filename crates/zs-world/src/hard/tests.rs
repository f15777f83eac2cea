use std::collections::{BTreeMap, BTreeSet};

use zs_core::{Action, contains_words, exact_match, parse_action};

use super::*;
use crate::{Behaviour, QuestionKind, SEARCH_BUDGETS, WorldPreset, transcript};

fn world(seed: u64, split: Split) -> World {
    let difficulty = Difficulty { passages: 4_000, ..Difficulty::default() };
    World::hard(seed, split, &difficulty).unwrap()
}

/// The words that no other split may have: names but for given names.
fn names(world: &World) -> BTreeSet<String> {
    let literal = |it: EntityType| matches!(it, EntityType::Job | EntityType::Year);
    let entities = world.entities().iter().filter(|it| !literal(it.entity_type));
    let hard = world.hard.as_ref().unwrap();
    let others = hard.aliases.iter().flatten().chain(&hard.lookalikes);
    let all = entities.map(|it| &it.name).chain(others);
    all.map(|it| it.rsplit(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn is_a_function_of_seed_split_and_difficulty() {
    let a = world(3, Split::Train);
    assert_eq!(a.passages(), world(3, Split::Train).passages());
    assert_ne!(a.passages(), world(4, Split::Train).passages());
    assert_eq!(a.mixed_questions(1, 100), a.mixed_questions(1, 300)[..100]);
    assert_ne!(a.mixed_questions(1, 100), a.mixed_questions(2, 100));
    assert_eq!(WorldPreset::Hard.generate(0, Split::Test).num_passages(), 20_000);
}

#[test]
fn has_the_wanted_number_of_passages() {
    let harsh = Difficulty { max_facts: 1, stale: 1.0, namesakes: 1.0, ..Difficulty::default() };
    let calm = Difficulty { stale: 0.0, aliases: 0.0, similar: 0.0, ..Difficulty::default() };
    for (passages, difficulty) in [(1_000, &harsh), (5_000, &harsh), (1_000, &calm), (9_999, &calm)]
    {
        let difficulty = Difficulty { passages, ..difficulty.clone() };
        let world = World::hard(0, Split::Validation, &difficulty).unwrap();
        assert_eq!(world.num_passages(), passages, "{difficulty:?}");
    }
}

#[test]
fn splits_share_no_name() {
    let of_split =
        [Split::Train, Split::Validation, Split::Test].map(|it| (it, names(&world(2, it))));
    for (split, names) in &of_split {
        assert!(names.iter().all(|it| Split::of_name(it) == *split));
        let easy = World::generate(2, *split);
        assert!(easy.entities().len() < names.len());
    }
    assert!(of_split[0].1.is_disjoint(&of_split[1].1));
}

#[test]
fn facts_are_consistent() {
    let world = world(5, Split::Test);
    assert!(world.facts.is_sorted());
    let object = |subject, relation| Some(world.facts[world.fact_index(subject, relation)?].object);
    for (fact, it) in world.facts.iter().enumerate() {
        let grammar = it.relation.grammar();
        assert_eq!(world.entity_type(it.subject), grammar.subject);
        assert_eq!(world.entity_type(it.object), grammar.object);
        assert!(!world.passages_that_state(*it).is_empty(), "{it:?}");
        let (there, back) = match it.relation {
            Relation::Spouse => (Relation::Spouse, it.subject),
            Relation::Capital => (Relation::Country, it.subject),
            Relation::Films => (Relation::Director, it.subject),
            Relation::Books => (Relation::Author, it.subject),
            _ => continue,
        };
        assert_eq!(object(it.object, there), Some(back), "{fact}");
    }
    let mut described: BTreeMap<String, EntityId> = BTreeMap::new();
    for entity in (0..world.entities.len()).map(|it| EntityId(it as u32)) {
        let title = world.title(entity);
        assert_eq!(described.insert(title.clone(), entity), None, "{title}");
        assert_eq!(world.is_namesake(entity), title.ends_with(')'), "{title}");
    }
}

#[test]
fn outdated_statements_are_older_and_different() {
    let world = world(5, Split::Test);
    let hard = world.hard.as_ref().unwrap();
    assert!(hard.formers.len() > 200);
    for former in &hard.formers {
        let fact = world.facts[former.fact];
        assert!(former.year < hard.years[former.fact], "{former:?}");
        assert!(fact.relation.is_list() || former.objects != [fact.object], "{former:?}");
    }
}

#[test]
fn passages_say_what_they_state() {
    let world = world(6, Split::Train);
    let mut with_several = 0;
    for index in 0..world.num_passages() {
        let (document, mentions) = world.passage_with_mentions(index);
        assert!(!document.text.contains(['{', '}']), "{document:?}");
        let name = document.title.split(" (").next().unwrap();
        assert!(contains_words(&document.text, name), "{document:?}");
        with_several += usize::from(mentions.len() > 1);
        for (fact, mention) in mentions {
            let fact = world.facts[fact];
            assert_eq!(world.title(fact.subject), document.title);
            let forms = [Some(world.name(fact.object)), world.alias(fact.object)];
            let is_form = forms.into_iter().flatten().any(|it| contains_words(&mention, it));
            assert!(is_form && contains_words(&document.text, &mention), "{document:?}");
        }
    }
    assert!(with_several > world.num_passages() / 4, "{with_several}");
}

#[test]
fn questions_are_supported_and_of_every_kind() {
    let world = world(7, Split::Test);
    let questions = world.mixed_questions(0, 1_000);
    assert_eq!(questions.len(), 1_000);
    let mut kinds: BTreeMap<QuestionKind, BTreeSet<usize>> = BTreeMap::new();
    for it in &questions {
        let hops = it.searches(&world).len();
        assert!((1..=4).contains(&hops), "{it:?}");
        assert_eq!(it.question.hops, Some(hops as u8));
        kinds.entry(it.kind).or_default().insert(hops);
        let mut known: BTreeSet<EntityId> = it.mentions.iter().map(|it| it.0).collect();
        for part in it.searches(&world) {
            assert!(known.contains(&part[0].subject), "{it:?}");
            known.extend(part.iter().map(|it| it.object));
        }
        for (_, mention) in &it.mentions {
            assert!(contains_words(&it.question.text, mention), "{it:?}");
        }
        assert!(it.question.text.ends_with('?') && !it.question.text.contains('{'), "{it:?}");
        let is_open = it.kind.chance().is_none();
        let answers = &it.question.golden_answers;
        let gives_away = answers.iter().any(|answer| contains_words(&it.question.text, answer));
        assert!(!(is_open && gives_away), "{it:?}");
    }
    let all = |hops: &[usize]| hops.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!(kinds[&QuestionKind::Single], all(&[1]));
    assert_eq!(kinds[&QuestionKind::Bridge], all(&[2, 3, 4]));
    assert_eq!(kinds[&QuestionKind::Intersection], all(&[2, 3, 4]));
    assert_eq!(kinds[&QuestionKind::Ordinal], all(&[3, 4]));
    assert_eq!(kinds[&QuestionKind::Comparison], all(&[2, 4]));
    assert_eq!(kinds[&QuestionKind::YesNo], all(&[1, 2, 3]));
    assert_eq!(kinds[&QuestionKind::Count], all(&[1]));
    for hops in 1..=4 {
        let chains = world.questions(0, hops, 50);
        assert!(chains.iter().all(|it| it.question.hops == Some(hops)) && chains.len() == 50);
    }
}

/// The vocabulary of hard worlds is that of everything that is said about them.
#[test]
fn texts_are_words_and_syllables() {
    let json = WorldPreset::Hard.tokenizer_json();
    let tokenizer = zs_model::Tokenizer::from_bytes(json.as_bytes(), "tokenizer.json").unwrap();
    assert!((605..700).contains(&tokenizer.vocab_size()), "{}", tokenizer.vocab_size());
    let is_letter = |token: &str| token.trim_start_matches("##").len() == 1;
    let mut letters = BTreeSet::new();
    let mut check = |text: &str| {
        for token in tokenizer.encode(text).unwrap() {
            let token = tokenizer.decode(&[token]);
            let is_alone = is_letter(&token) && token.chars().all(char::is_alphabetic);
            if is_alone && !letters.contains(&token) {
                letters.insert(token);
            }
        }
    };
    let world = world(8, Split::Validation);
    (0..world.num_passages()).for_each(|it| check(&world.passage(it).text));
    let mut rng = StreamKey::new(0).rng(Domain::Corpus);
    for question in world.mixed_questions(0, 300) {
        // Misspelled given names are spelled out.
        if question.mentions.iter().all(|it| contains_words(&it.1, world.name(it.0))) {
            check(&question.question.text);
            for behaviour in [Behaviour::UselessQuery, Behaviour::Good] {
                check(&transcript(&world, &question, behaviour, &mut rng).text());
            }
        }
    }
    assert_eq!(letters, ["I", "a"].map(str::to_owned).into());
}

#[test]
fn good_transcripts_answer_and_others_do_not() {
    let world = world(9, Split::Train);
    let mut rng = StreamKey::new(0).rng(Domain::Corpus);
    let questions = world.mixed_questions(3, 300);
    let mut score = |behaviour, is_open: bool| {
        let asked: Vec<_> =
            questions.iter().filter(|it| it.kind.chance().is_none() == is_open).collect();
        let hits = asked.iter().filter(|question| {
            let example = transcript(&world, question, behaviour, &mut rng);
            let turns = example.segments.iter().filter(|it| it.learned);
            let actions: Vec<Action> = turns.map(|it| parse_action(&it.text)).collect();
            let (last, searches) = actions.split_last().unwrap();
            assert!(searches.iter().all(|it| matches!(it, Action::Search(_))), "{example:?}");
            let hops = question.searches(&world).len();
            assert!(searches.len() <= SEARCH_BUDGETS[hops - 1], "{example:?}");
            let Action::Answer(answer) = last else { panic!("{example:?}") };
            exact_match(answer, &question.question.golden_answers)
        });
        hits.count() as f64 / asked.len() as f64
    };
    assert!(score(Behaviour::Good, true) > 0.7);
    assert!(score(Behaviour::Good, false) > 0.8);
    assert!(score(Behaviour::Guess, true) < 0.03);
    assert!(score(Behaviour::UselessQuery, true) < 0.05);
    assert!(score(Behaviour::Careless, true) < 0.35);
}
