//! Questions that join several facts: intersections, comparisons, yes and no, lists.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::questions::{Composer, Draft, retry};
use crate::relation::fill;
use crate::wording::{
    FILM_INTERSECTIONS, IS_IT, IS_IT_ALSO, MAKER_INTERSECTIONS, NUMBERS, OLDER_BOOK, OLDER_COMPANY,
    OLDER_FILM, OLDER_MAKER, OLDER_PERSON, ORDINAL_BOOK, ORDINAL_FILM, ORDINALS, YES_OR_NO,
};
use crate::{EntityId, EntityType, QuestionKind, Relation, WorldQuestion, pick, pick_weighted};

impl Composer<'_> {
    pub(super) fn intersection(&self, rng: &mut ChaCha8Rng) -> Option<WorldQuestion> {
        match rng.random_bool(0.5) {
            true => {
                let num_films = rng.random_range(2..=3);
                retry(rng, |rng| self.film_of_two(num_films, rng))
            }
            false => self.maker_of_two(rng),
        }
    }

    /// The one film of a director that a composer wrote music for.
    fn film_of_two(&self, num_films: usize, rng: &mut ChaCha8Rng) -> Option<WorldQuestion> {
        let (director, mut path) = self.draw_list(Relation::Films, num_films, rng)?;
        let films = self.objects(&path);
        let composed = self.facts_of(&films, Relation::Composer)?;
        let at = rng.random_range(0..films.len());
        let composers = self.objects(&composed);
        let composer = composers[at];
        if composers.iter().filter(|it| **it == composer).count() > 1 {
            return None;
        }
        path.extend(composed);
        let mentions = self.mention_each([director, composer], rng);
        let text = fill(pick::<&str>(&FILM_INTERSECTIONS, rng), &mentions[0].1, &mentions[1].1);
        let answers = self.names_of(films[at]);
        let kind = QuestionKind::Intersection;
        Some(self.question(Draft { kind, text, answers, path, variant: Some(at), mentions }))
    }

    /// The maker of both a film and a book, where two of each have the name.
    fn maker_of_two(&self, rng: &mut ChaCha8Rng) -> Option<WorldQuestion> {
        if self.index.crossings.is_empty() {
            return None;
        }
        let [film, other_film, book, other_book] = *pick(&self.index.crossings, rng);
        let mut path = self.facts_of(&[film, other_film], Relation::Director)?;
        path.extend(self.facts_of(&[book, other_book], Relation::Author)?);
        let [film_name, book_name] = [film, book].map(|it| self.world.name(it).to_owned());
        let text = fill(pick::<&str>(&MAKER_INTERSECTIONS, rng), &film_name, &book_name);
        let answers = self.names_of(self.world.facts[path[0]].object);
        let mentions = vec![(film, film_name), (book, book_name)];
        let kind = QuestionKind::Intersection;
        Some(self.question(Draft { kind, text, answers, path, variant: None, mentions }))
    }

    /// Comparison: the older of two, or the one with the older maker.
    pub(super) fn comparison(&self, rng: &mut ChaCha8Rng) -> Option<WorldQuestion> {
        const OLDER: [(EntityType, Relation, [&str; 2], Option<Relation>); 4] = [
            (EntityType::Person, Relation::Birth, OLDER_PERSON, None),
            (EntityType::Film, Relation::Release, OLDER_FILM, Some(Relation::Director)),
            (EntityType::Book, Relation::Publication, OLDER_BOOK, Some(Relation::Author)),
            (EntityType::Company, Relation::Founding, OLDER_COMPANY, Some(Relation::Founder)),
        ];
        let (entity_type, relation, texts, maker) = *pick(&OLDER, rng);
        let maker = maker.filter(|_| rng.random_bool(0.5));
        let phrasing = match maker {
            None => (*pick(&texts, rng)).to_owned(),
            Some(it) => OLDER_MAKER.replace("{t}", entity_type.noun()).replace("{k}", it.keyword()),
        };
        let years = (maker, if maker.is_some() { Relation::Birth } else { relation });
        retry(rng, |rng| self.older_of_two(entity_type, years, &phrasing, rng))
    }

    /// Compares by a year: that of two entities, or that of their makers.
    fn older_of_two(
        &self,
        entity_type: EntityType,
        (maker, dating): (Option<Relation>, Relation),
        phrasing: &str,
        rng: &mut ChaCha8Rng,
    ) -> Option<WorldQuestion> {
        let pair = [(); 2].map(|()| self.world.random_entity(entity_type, rng));
        let is_given = |it| self.world.is_namesake(it) && entity_type != EntityType::Person;
        if self.world.name(pair[0]) == self.world.name(pair[1])
            || maker.is_none() && pair.into_iter().any(is_given)
        {
            return None;
        }
        let mut path = Vec::new();
        let mut years = Vec::new();
        for entity in pair {
            let mut subject = entity;
            if let Some(maker) = maker {
                let fact = self.world.fact_index(entity, maker)?;
                path.push(fact);
                subject = self.world.facts[fact].object;
            }
            let fact = self.world.fact_index(subject, dating)?;
            path.push(fact);
            years.push(self.year(fact)?);
        }
        if years[0] == years[1] {
            return None;
        }
        let mentions = self.mention_each(pair, rng);
        let text = fill(phrasing, &mentions[0].1, &mentions[1].1);
        let older = usize::from(years[1] < years[0]);
        let mut answers = self.names_of(pair[older]);
        if !answers.contains(&mentions[older].1) {
            // As the question calls it.
            answers.push(mentions[older].1.clone());
        }
        let kind = QuestionKind::Comparison;
        Some(self.question(Draft { kind, text, answers, path, variant: None, mentions }))
    }

    /// As often yes as no.
    pub(super) fn yes_no(&self, rng: &mut ChaCha8Rng) -> Option<WorldQuestion> {
        let holds = rng.random_bool(0.5);
        match rng.random_bool(0.6) {
            true => {
                let hops = pick_weighted(&[0.4, 0.4, 0.2], rng) + 1;
                retry(rng, |rng| self.is_object(holds, hops, rng))
            }
            false => retry(rng, |rng| self.is_same_object(holds, rng)),
        }
    }

    /// Returns a question for one fact at the end of a chain. What is wrong often used to be right.
    fn is_object(&self, holds: bool, hops: usize, rng: &mut ChaCha8Rng) -> Option<WorldQuestion> {
        let path = self.draw_path(hops, rng)?;
        let last = path[path.len() - 1];
        let fact = self.world.facts[last];
        if fact.relation.grammar().phrases.is_empty() {
            return None;
        }
        let claimed = match (holds, self.former(last)) {
            (true, _) => fact.object,
            (false, Some(former)) if rng.random_bool(0.5) => former,
            (false, _) => self.world.random_entity(fact.relation.grammar().object, rng),
        };
        let is_mentioned = path.iter().any(|&it| self.world.facts[it].subject == claimed);
        if is_mentioned || (claimed == fact.object) != holds {
            return None;
        }
        let first = self.world.facts[path[0]].subject;
        let mention = self.mention_in_question(first, rng);
        let phrase = self.phrase(&path, &mention, rng);
        let text = fill(IS_IT, &phrase, &self.world.mention(claimed));
        let mentions = vec![(first, mention)];
        let kind = QuestionKind::YesNo;
        Some(self.question(Draft {
            kind,
            text,
            answers: answer(holds),
            path,
            variant: Some(claimed.0 as usize),
            mentions,
        }))
    }

    fn is_same_object(&self, holds: bool, rng: &mut ChaCha8Rng) -> Option<WorldQuestion> {
        let relations: Vec<_> = self.index.sharing.iter().collect();
        let (&relation, groups) = *pick(&relations, rng);
        if groups.is_empty() {
            return None;
        }
        let group = pick(groups, rng);
        let first = *pick(group, rng);
        let second = match holds {
            true => *pick(group, rng),
            false => self.world.random_entity(relation.grammar().subject, rng),
        };
        let path = self.facts_of(&[first, second], relation)?;
        let objects = self.objects(&path);
        if self.world.name(first) == self.world.name(second) || (objects[0] == objects[1]) != holds
        {
            return None;
        }
        let mentions = self.mention_each([first, second], rng);
        let phrasing = *pick(relation.grammar().phrases, rng);
        let [a, b] = [0, 1].map(|it: usize| fill(phrasing, &mentions[it].1, ""));
        let text = fill(IS_IT_ALSO, &a, &b);
        let kind = QuestionKind::YesNo;
        Some(self.question(Draft {
            kind,
            text,
            answers: answer(holds),
            path,
            variant: None,
            mentions,
        }))
    }

    /// The number of someone's works: one, two or three, equally often.
    pub(super) fn count(&self, rng: &mut ChaCha8Rng) -> Option<WorldQuestion> {
        let relation = *pick(&[Relation::Films, Relation::Books], rng);
        let number = rng.random_range(1..=3);
        let (owner, path) = self.draw_list(relation, number, rng)?;
        let mentions = self.mention_each([owner], rng);
        let text = fill(pick::<&str>(relation.grammar().questions, rng), &mentions[0].1, "");
        let answers = vec![number.to_string(), NUMBERS[number - 1].to_owned()];
        let kind = QuestionKind::Count;
        Some(self.question(Draft { kind, text, answers, path, variant: None, mentions }))
    }

    /// The first, second or third of someone's works.
    pub(super) fn ordinal(&self, rng: &mut ChaCha8Rng) -> Option<WorldQuestion> {
        const WORKS: [(Relation, Relation, &str); 2] = [
            (Relation::Films, Relation::Release, ORDINAL_FILM),
            (Relation::Books, Relation::Publication, ORDINAL_BOOK),
        ];
        let (relation, dating, phrasing) = *pick(&WORKS, rng);
        let number = rng.random_range(2..=3);
        let rank = rng.random_range(0..number);
        let phrasing = phrasing.replace("{k}", ORDINALS[rank]);
        retry(rng, |rng| self.work_of_rank((relation, number), dating, (&phrasing, rank), rng))
    }

    fn work_of_rank(
        &self,
        (relation, number): (Relation, usize),
        dating: Relation,
        (phrasing, rank): (&str, usize),
        rng: &mut ChaCha8Rng,
    ) -> Option<WorldQuestion> {
        let (owner, mut path) = self.draw_list(relation, number, rng)?;
        let works = self.objects(&path);
        let dated = self.facts_of(&works, dating)?;
        let mut order: Vec<(u16, EntityId)> = Vec::new();
        for (work, &fact) in works.iter().zip(&dated) {
            order.push((self.year(fact)?, *work));
        }
        order.sort_unstable();
        // A list that describes a work gives its year away.
        let is_given = works.iter().any(|&it| self.world.is_namesake(it));
        if is_given || order.windows(2).any(|it| it[0].0 == it[1].0) {
            return None;
        }
        path.extend(dated);
        let mentions = self.mention_each([owner], rng);
        let text = fill(phrasing, &mentions[0].1, "");
        let answers = self.names_of(order[rank].1);
        let kind = QuestionKind::Ordinal;
        Some(self.question(Draft { kind, text, answers, path, variant: Some(rank), mentions }))
    }

    /// Someone with so many works, and the facts of the list.
    fn draw_list(
        &self,
        relation: Relation,
        number: usize,
        rng: &mut ChaCha8Rng,
    ) -> Option<(EntityId, Vec<usize>)> {
        let owners = &self.index.list_owners[&relation][number - 1];
        if owners.is_empty() {
            return None;
        }
        let owner = *pick(owners, rng);
        let first = self.world.fact_index(owner, relation)?;
        Some((owner, (first..first + number).collect()))
    }

    /// The fact of the relation about each entity.
    fn facts_of(&self, entities: &[EntityId], relation: Relation) -> Option<Vec<usize>> {
        entities.iter().map(|&it| self.world.fact_index(it, relation)).collect()
    }

    fn objects(&self, facts: &[usize]) -> Vec<EntityId> {
        facts.iter().map(|&it| self.world.facts[it].object).collect()
    }

    /// The object of a fact, as a year.
    fn year(&self, fact: usize) -> Option<u16> {
        self.world.name(self.world.facts[fact].object).parse().ok()
    }

    /// The object that a fact used to have.
    fn former(&self, fact: usize) -> Option<EntityId> {
        let at = self.hard.formers.binary_search_by_key(&fact, |it| it.fact).ok()?;
        self.hard.formers[at].objects.first().copied()
    }

    fn mention_each<const N: usize>(
        &self,
        entities: [EntityId; N],
        rng: &mut ChaCha8Rng,
    ) -> Vec<(EntityId, String)> {
        entities.map(|it| (it, self.mention_in_question(it, rng))).into()
    }
}

fn answer(holds: bool) -> Vec<String> {
    vec![YES_OR_NO[usize::from(!holds)].to_owned()]
}
