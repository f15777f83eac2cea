//! The bytes of worlds: published runs and models depend on them.

use zs_core::{Domain, StreamKey};
use zs_world::{
    Behaviour, BehaviourMix, Difficulty, QueryMix, Split, World, WorldPreset, induction_drill,
    page_example, reading_drill, simulation_case, tokenizer_json, transcript, write_chains,
    write_corpus, write_questions,
};

/// FNV-1a.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn easy_worlds_are_pinned() {
    let digests = [(0, Split::Test), (7, Split::Train)].map(|(seed, split)| {
        let world = World::generate(seed, split);
        let mut bytes = Vec::new();
        write_corpus(&mut bytes, world.passages()).unwrap();
        for hops in [1, 2] {
            let questions = world.questions(3, hops, 200);
            write_questions(&mut bytes, questions.iter().map(|it| &it.question)).unwrap();
        }
        digest(&bytes)
    });
    assert_eq!(digests, [11_095_418_688_078_121_830, 4_676_038_424_177_344_385]);
}

/// Pre-training text and the tokenizer, on which `assets/zs-tiny` was made.
#[test]
fn training_text_of_easy_worlds_is_pinned() {
    let world = World::generate(7, Split::Train);
    let mut rng = StreamKey::new(5).rng(Domain::Corpus);
    let mut text = tokenizer_json();
    for index in 0..60 {
        let question = world.random_question(1 + index % 2, &mut rng);
        let behaviour = BehaviourMix::default().draw(&mut rng);
        text += &transcript(&world, &question, behaviour, &mut rng).text();
        text += &transcript(&world, &question, Behaviour::Good, &mut rng).text();
        text +=
            &format!("{:?}", simulation_case(&world, &question, 0, &QueryMix::default(), &mut rng));
        text += &reading_drill(&world, &mut rng).text();
        text += &page_example(&world, &mut rng).text();
        text += &induction_drill(&world, &mut rng).text();
    }
    assert_eq!(digest(text.as_bytes()), 14_151_024_402_754_301_563);
}

#[test]
fn hard_worlds_are_pinned() {
    let difficulty = Difficulty { passages: 2_000, ..Difficulty::default() };
    let digests = [(0, Split::Test), (7, Split::Train)].map(|(seed, split)| {
        let world = World::hard(seed, split, &difficulty).unwrap();
        let questions = world.mixed_questions(3, 400);
        let mut bytes = WorldPreset::Hard.tokenizer_json().into_bytes();
        write_corpus(&mut bytes, (0..world.num_passages()).map(|it| world.passage(it))).unwrap();
        write_questions(&mut bytes, questions.iter().map(|it| &it.question)).unwrap();
        write_chains(&mut bytes, &world, &questions).unwrap();
        digest(&bytes)
    });
    assert_eq!(digests, [11_104_524_647_315_759_370, 1_688_967_732_816_291_062]);
}
