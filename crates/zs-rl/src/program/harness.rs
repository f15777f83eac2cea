//! Asks program functions about an action, within caps, and survives whatever they do.

use zs_core::registry::{RegistryError, Spec};
use zs_core::{Action, caught};

use super::{Intervention, ProgramCheck, ProgramContext, ProgramError, ProgramFunction};
use super::{ProgramFunctionRegistry, ProgramOutcome};
use crate::Trajectory;

/// A library of program functions around the agent loop.
///
/// - Functions are called in order, and each sees the action as rewritten by the earlier ones.
/// - Each may intervene [`max_fires`](ProgramFunction::max_fires) times per episode; further times are
///   logged as rate-limited and ignored.
/// - An answer is sent back once per episode: the injected text becomes the next observation and the
///   policy continues. A rewrite takes precedence over an injection; the last turn is never sent back.
/// - A function that fails, panics, or asks for an empty query leaves the action as it is.
///
/// An empty library leaves the rollout unchanged.
///
/// # Differences
///
/// HASP retrieves six to ten candidates out of a growing library and may let a teacher filter them;
/// here every function of the (small) library is asked. HASP caps rewrites only; here a cap counts
/// injections too.
///
/// # References
///
/// - [HASP](https://arxiv.org/abs/2605.17734), section 3; reference code HolaYan/ExecutableSkills-HASP
#[derive(Debug, Default)]
pub struct Harness {
    functions: Vec<Box<dyn ProgramFunction>>,
}

/// State of the interventions in one episode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReviewState {
    /// Number of interventions of each function.
    fires: Vec<u32>,
    /// An answer has been sent back.
    sent_back: bool,
}

/// Outcome of an action.
#[derive(Clone, Debug, PartialEq)]
pub struct Review {
    /// The action to carry out.
    pub action: Action,
    /// Messages to the policy, in order. An answer is then sent back.
    pub injected: Vec<String>,
    /// Every function's check, in order.
    pub checks: Vec<ProgramCheck>,
}

impl Harness {
    /// A library of these functions.
    #[must_use]
    pub fn new(functions: Vec<Box<dyn ProgramFunction>>) -> Self {
        Self { functions }
    }

    /// Builds a library of functions by their names and settings.
    ///
    /// # Errors
    ///
    /// Fails on an unknown name, and on unknown or invalid settings.
    pub fn of(registry: &ProgramFunctionRegistry, specs: &[Spec]) -> Result<Self, RegistryError> {
        let functions = specs.iter().map(|it| registry.build(it, &()));
        Ok(Self::new(functions.collect::<Result<_, _>>()?))
    }

    /// Number of functions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Tells whether there are no functions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// State after the turns of an episode, from its audit log.
    #[must_use]
    pub(crate) fn state_after(&self, episode: &Trajectory) -> ReviewState {
        let has_fired = |it: &&ProgramCheck| {
            use ProgramOutcome::{Injected, Modified, Overridden};
            matches!(it.outcome, Injected { .. } | Modified { .. } | Overridden)
        };
        let fires = |function: &dyn ProgramFunction| {
            let of_function = episode.programs.iter().filter(|it| it.function == function.id());
            of_function.filter(has_fired).count() as u32
        };
        ReviewState {
            fires: self.functions.iter().map(|it| fires(it.as_ref())).collect(),
            sent_back: episode.turns.iter().any(|it| matches!(it.action, Action::Answer(_))),
        }
    }

    /// Asks every function about an action of the policy.
    #[must_use]
    pub fn review(
        &self,
        context: &ProgramContext<'_>,
        proposed: Action,
        state: &mut ReviewState,
    ) -> Review {
        state.fires.resize(self.functions.len(), 0);
        let was_answer = matches!(proposed, Action::Answer(_));
        let mut review = Review { action: proposed, injected: Vec::new(), checks: Vec::new() };
        for (function, fires) in self.functions.iter().zip(&mut state.fires) {
            let mut outcome = ask(function.as_ref(), context, &review.action);
            let steps_in = matches!(
                outcome,
                ProgramOutcome::Modified { .. } | ProgramOutcome::Injected { .. }
            );
            if steps_in && *fires >= function.max_fires() {
                outcome = ProgramOutcome::RateLimited;
            } else if steps_in {
                *fires += 1;
            }
            match &outcome {
                ProgramOutcome::Modified { after, .. } => review.action = after.clone(),
                ProgramOutcome::Injected { text, .. } => review.injected.push(text.clone()),
                _ => {}
            }
            let function = function.id().to_owned();
            review.checks.push(ProgramCheck { turn: context.step as usize, function, outcome });
        }
        let is_answer = matches!(review.action, Action::Answer(_));
        let is_sent_back = is_answer && !review.injected.is_empty();
        // An answer that was rewritten is not also argued with.
        let is_rewritten = was_answer && review.checks.iter().any(|it| is_modified(&it.outcome));
        if is_rewritten || (is_sent_back && (state.sent_back || !context.may_search())) {
            review.drop_injections();
        } else if is_sent_back {
            state.sent_back = true;
        }
        review
    }
}

impl Review {
    fn drop_injections(&mut self) {
        self.injected.clear();
        for check in &mut self.checks {
            if matches!(check.outcome, ProgramOutcome::Injected { .. }) {
                check.outcome = ProgramOutcome::Overridden;
            }
        }
    }
}

fn is_modified(outcome: &ProgramOutcome) -> bool {
    matches!(outcome, ProgramOutcome::Modified { .. })
}

/// Asks one function. Whatever it does, there is an outcome.
fn ask(
    function: &dyn ProgramFunction,
    context: &ProgramContext<'_>,
    action: &Action,
) -> ProgramOutcome {
    let asked = || -> Result<Option<Intervention>, ProgramError> {
        match function.should_activate(context, action)? {
            true => function.intervene(context, action).map(Some),
            false => Ok(None),
        }
    };
    // The function is shared and has no state of ours to leave half changed: it is given
    // references to plain data and its result is thrown away.
    let message = match caught(asked) {
        Ok(Ok(None)) => return ProgramOutcome::NotActivated,
        Ok(Ok(Some(Intervention::Noop))) => return ProgramOutcome::Noop,
        Ok(Ok(Some(Intervention::ModifyAction { action: after, reason }))) => match &after {
            Action::Search(query) if query.trim().is_empty() => "asked for an empty query".into(),
            Action::Invalid => "asked for an invalid action".into(),
            Action::Search(_) | Action::Answer(_) => {
                return ProgramOutcome::Modified { before: action.clone(), after, reason };
            }
        },
        Ok(Ok(Some(Intervention::InjectContext { text, reason }))) => {
            return ProgramOutcome::Injected { text, reason };
        }
        Ok(Err(error)) => error.to_string(),
        Err(message) => message,
    };
    ProgramOutcome::Failed { message }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A function that does as it is told.
    pub(crate) struct Scripted {
        pub(crate) name: &'static str,
        pub(crate) script: fn(&ProgramContext<'_>, &Action) -> Result<Intervention, ProgramError>,
        pub(crate) max_fires: u32,
    }

    impl std::fmt::Debug for Scripted {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.name)
        }
    }

    impl ProgramFunction for Scripted {
        fn id(&self) -> &str {
            self.name
        }

        fn should_activate(
            &self,
            _context: &ProgramContext<'_>,
            _action: &Action,
        ) -> Result<bool, ProgramError> {
            Ok(true)
        }

        fn intervene(
            &self,
            context: &ProgramContext<'_>,
            action: &Action,
        ) -> Result<Intervention, ProgramError> {
            (self.script)(context, action)
        }

        fn max_fires(&self) -> u32 {
            self.max_fires
        }
    }

    pub(crate) fn scripted(
        name: &'static str,
        script: fn(&ProgramContext<'_>, &Action) -> Result<Intervention, ProgramError>,
    ) -> Box<dyn ProgramFunction> {
        Box::new(Scripted { name, script, max_fires: 2 })
    }

    pub(crate) fn modify(action: Action) -> Result<Intervention, ProgramError> {
        Ok(Intervention::ModifyAction { action, reason: "because".to_owned() })
    }

    pub(crate) fn inject(text: &str) -> Result<Intervention, ProgramError> {
        Ok(Intervention::InjectContext { text: text.to_owned(), reason: "because".to_owned() })
    }

    fn search(query: &str) -> Action {
        Action::Search(query.to_owned())
    }

    fn answer(text: &str) -> Action {
        Action::Answer(text.to_owned())
    }

    fn context(step: u32) -> ProgramContext<'static> {
        ProgramContext { question: "who?", step, max_steps: 3, text: "", turns: &[] }
    }

    fn append(suffix: &str, action: &Action) -> Result<Intervention, ProgramError> {
        match action {
            Action::Search(query) => modify(search(&format!("{query}{suffix}"))),
            _ => Ok(Intervention::Noop),
        }
    }

    fn outcomes(review: &Review) -> Vec<&ProgramOutcome> {
        review.checks.iter().map(|it| &it.outcome).collect()
    }

    #[test]
    fn functions_compose_in_order() {
        let harness = Harness::new(vec![
            scripted("a", |_, it| append("1", it)),
            scripted("b", |_, it| append("2", it)),
        ]);
        let review = harness.review(&context(0), search("q"), &mut ReviewState::default());
        assert_eq!(review.action, search("q12"));
        let ProgramOutcome::Modified { before, after, .. } = &review.checks[1].outcome else {
            panic!("{review:?}")
        };
        assert_eq!((before, after), (&search("q1"), &search("q12")));
    }

    #[test]
    fn the_third_rewrite_is_logged_and_ignored() {
        let harness = Harness::new(vec![scripted("a", |_, it| append("1", it))]);
        let mut state = ReviewState::default();
        for (step, expected) in [(0, "q1"), (1, "q1"), (2, "q")] {
            let review = harness.review(&context(step), search("q"), &mut state);
            assert_eq!(review.action, search(expected));
            let is_limited = review.checks[0].outcome == ProgramOutcome::RateLimited;
            assert_eq!(is_limited, step == 2);
            assert_eq!(review.checks[0].turn, step as usize);
        }
        // Another episode starts anew.
        let review = harness.review(&context(0), search("q"), &mut ReviewState::default());
        assert_eq!(review.action, search("q1"));
    }

    #[test]
    fn whatever_functions_do_the_action_stays() {
        let harness = Harness::new(vec![
            scripted("errs", |_, _| Err(ProgramError("no index".to_owned()))),
            scripted("panics", |_, _| panic!("at once")),
            scripted("empties", |_, _| modify(search("  "))),
            scripted("invalidates", |_, _| modify(Action::Invalid)),
            scripted("idles", |_, _| Ok(Intervention::Noop)),
        ]);
        let review = harness.review(&context(0), search("q"), &mut ReviewState::default());
        assert_eq!(review.action, search("q"));
        let messages: Vec<&str> = outcomes(&review)
            .iter()
            .filter_map(|it| match it {
                ProgramOutcome::Failed { message } => Some(message.as_str()),
                _ => None,
            })
            .collect();
        let expected = [
            "no index",
            "panicked: at once",
            "asked for an empty query",
            "asked for an invalid action",
        ];
        assert_eq!(messages, expected);
        assert_eq!(outcomes(&review)[4], &ProgramOutcome::Noop);
    }

    #[test]
    fn an_answer_is_sent_back_once() {
        let harness = Harness::new(vec![scripted("a", |_, _| inject("sure?"))]);
        let mut state = ReviewState::default();
        let first = harness.review(&context(0), answer("x"), &mut state);
        assert_eq!((first.action, first.injected), (answer("x"), vec!["sure?".to_owned()]));
        let second = harness.review(&context(1), answer("x"), &mut state);
        assert!(second.injected.is_empty());
        assert_eq!(outcomes(&second), [&ProgramOutcome::Overridden]);
        // There is no turn after the last one to send it back to.
        let last = harness.review(&context(2), answer("x"), &mut ReviewState::default());
        assert!(last.injected.is_empty());
        // Searches are told as often as the cap allows.
        let mut state = ReviewState::default();
        for _ in 0..2 {
            assert_eq!(harness.review(&context(0), search("q"), &mut state).injected.len(), 1);
        }
    }

    #[test]
    fn a_rewrite_beats_an_injection() {
        let harness = Harness::new(vec![
            scripted("injects", |_, _| inject("sure?")),
            scripted("searches", |it, _| modify(Action::Search(it.question.to_owned()))),
        ]);
        let review = harness.review(&context(0), answer("x"), &mut ReviewState::default());
        assert_eq!(review.action, search("who?"));
        assert!(review.injected.is_empty());
        assert_eq!(outcomes(&review)[0], &ProgramOutcome::Overridden);
    }
}
