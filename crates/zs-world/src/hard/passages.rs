//! The passages of a hard world: which states what about whom.

use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::Former;
use super::entities::Cast;
use crate::{Difficulty, EntityId, Relation, World};

/// Content of a passage; its words are drawn when it is read.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(super) subject: EntityId,
    /// The subject's name in [`Hard::lookalikes`](super::Hard), where the passage is about a name
    /// that only resembles the subject's; its statements are then about other objects.
    pub(super) lookalike: Option<usize>,
    pub(super) statements: Vec<Statement>,
}

/// One sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// A fact, or the facts of a list, as they are now: the first one and their number.
    Current {
        /// The first fact.
        first: usize,
        /// Number of facts.
        len: usize,
    },
    /// An outdated statement: an index into [`Hard::formers`](super::Hard).
    Former(usize),
}

impl Plan {
    /// The facts that the passage states as current.
    pub(crate) fn current_facts(&self) -> impl Iterator<Item = usize> {
        let statements = if self.lookalike.is_none() { &self.statements[..] } else { &[] };
        statements.iter().flat_map(|it| match *it {
            Statement::Current { first, len } => first..first + len,
            Statement::Former(_) => 0..0,
        })
    }

    fn has_former(&self) -> bool {
        self.statements.iter().any(|it| matches!(it, Statement::Former(_)))
    }
}

/// Every passage, in any order: those about each entity, then copies in other words and lookalikes
/// until the wanted number is reached.
pub(super) fn draw_plans(
    world: &World,
    cast: &mut Cast,
    formers: &[Former],
    difficulty: &Difficulty,
    rng: &mut ChaCha8Rng,
) -> Vec<Plan> {
    let mut plans = Vec::with_capacity(difficulty.passages);
    let mut formers = formers.iter().enumerate().peekable();
    for index in 0..world.entities.len() {
        let subject = EntityId(index as u32);
        let about = world.facts_about(subject);
        let undated = plan_current(world, subject, difficulty.max_facts, &mut plans, rng);
        while let Some((former, _)) = formers.next_if(|it| about.contains(&it.1.fact)) {
            let mut statements = vec![Statement::Former(former)];
            if difficulty.max_facts > 1 && rng.random_bool(0.5) {
                statements.extend(undated.choose(rng));
                statements.shuffle(rng);
            }
            plans.push(Plan { subject, lookalike: None, statements });
        }
    }
    add_duplicates(&mut plans, world, cast, difficulty.passages, rng);
    plans.shuffle(rng);
    plans
}

/// Adds the passages with the current facts about an entity, and returns its statements without a
/// date.
fn plan_current(
    world: &World,
    subject: EntityId,
    max_facts: usize,
    plans: &mut Vec<Plan>,
    rng: &mut ChaCha8Rng,
) -> Vec<Statement> {
    let about = world.facts_about(subject);
    let relation = |it: usize| world.facts[it].relation;
    let is_list = |it: &usize| relation(*it).is_list();
    let mut single: Vec<usize> = about.clone().filter(|it| !is_list(it)).collect();
    single.shuffle(rng);
    if !single.is_empty() {
        let least = single.len().div_ceil(max_facts);
        let num_passages = least + usize::from(least < single.len() && rng.random_bool(0.5));
        let mut rest = &single[..];
        for left in (1..=num_passages).rev() {
            let (page, others) = rest.split_at(rest.len().div_ceil(left));
            let statements = page.iter().map(|&first| Statement::Current { first, len: 1 });
            plans.push(Plan { subject, lookalike: None, statements: statements.collect() });
            rest = others;
        }
    }
    for list in [Relation::Films, Relation::Books] {
        let len = about.clone().filter(|&it| relation(it) == list).count();
        if let Some(first) = about.clone().find(|&it| relation(it) == list) {
            let statements = vec![Statement::Current { first, len }];
            plans.push(Plan { subject, lookalike: None, statements });
        }
    }
    let undated = single.into_iter().filter(|&it| !relation(it).is_dated());
    undated.map(|first| Statement::Current { first, len: 1 }).collect()
}

/// Copies of passages in other words, and the same about names that resemble their subjects'.
///
/// A passage is copied once at most, and not where its subject shares its name or it is outdated: a
/// search for a fact would return nothing but other passages.
fn add_duplicates(
    plans: &mut Vec<Plan>,
    world: &World,
    cast: &mut Cast,
    wanted: usize,
    rng: &mut ChaCha8Rng,
) {
    let num_originals = plans.len();
    let mut is_copied = vec![false; num_originals];
    while plans.len() < wanted {
        let at = rng.random_range(0..num_originals);
        let mut plan = plans[at].clone();
        if rng.random_bool(0.5) {
            let is_namesake = cast.namesakes[plan.subject.0 as usize];
            if is_copied[at] || is_namesake || plan.has_former() {
                continue;
            }
            is_copied[at] = true;
        } else {
            plan.lookalike = cast.draw_lookalike(world.name(plan.subject), rng);
            if plan.lookalike.is_none() {
                continue;
            }
        }
        plan.statements.shuffle(rng);
        plans.push(plan);
    }
}
