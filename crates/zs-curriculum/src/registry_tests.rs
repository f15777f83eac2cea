//! Properties of every registered curriculum.

use proptest::prelude::*;
use serde_json::{Value, json};
use zs_core::registry::Spec;

use crate::{CurriculumRegistry, ExponentialCurriculum, LinearCurriculum, Progress, builtin};

fn spec(value: Value) -> Spec {
    serde_json::from_value(value).unwrap()
}

#[track_caller]
fn check_reads(given: &str, expected: Value) {
    let given: Spec = toml::from_str(given).unwrap();
    let resolved = builtin().resolve(&given).unwrap();
    assert_eq!(resolved, spec(expected));
    let again: Spec = toml::from_str(&toml::to_string(&resolved).unwrap()).unwrap();
    assert_eq!(again, resolved);
    builtin().build(&given, &()).unwrap();
}

#[test]
fn reads_kinds_with_their_defaults() {
    check_reads(
        "kind = \"exponential\"\nstart = 0.0\nend = 0.75",
        json!({"kind": "exponential", "start": 0.0, "end": 0.75, "base": 4.0}),
    );
    check_reads(
        "kind = \"step\"\nstages = [{ from = 0.0, probability = 0.1 }]",
        json!({"kind": "step", "stages": [{"from": 0.0, "probability": 0.1}]}),
    );
    check_reads(
        "kind = \"per_turn\"\nfactors = [1.0, 0.5]\n\
         curriculum = { kind = \"exponential\", start = 0.0, end = 0.5 }",
        json!({
            "kind": "per_turn",
            "curriculum": {"kind": "exponential", "start": 0.0, "end": 0.5, "base": 4.0},
            "factors": [1.0, 0.5],
        }),
    );
    check_reads(
        "kind = \"feedback\"\nstart = 0.0\nend = 0.5\nthreshold = 0.6\nrise = 0.02",
        json!({
            "kind": "feedback", "start": 0.0, "end": 0.5, "threshold": 0.6, "rise": 0.02,
            "fall": 0.0, "window": 1,
        }),
    );
}

#[track_caller]
fn check_refuses(text: &str, expected: &str) {
    let error = builtin().build(&toml::from_str(text).unwrap(), &()).unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    let message = format!("{error} {source}");
    assert!(message.contains(expected), "`{message}` does not say `{expected}`");
}

#[test]
fn refuses_what_makes_no_sense() {
    check_refuses("kind = \"sawtooth\"", "unknown curriculum `sawtooth`, expected one of");
    check_refuses("kind = \"linear\"\nstart = 0.0", "missing field `end`");
    check_refuses("kind = \"constant\"\nprobability = 0.5\nbias = 1.0", "`bias`");
    check_refuses(
        "kind = \"step\"\nstages = [{ from = 0.0, probability = 0.1, x = 1 }]",
        "unknown setting `stages.0.x` of curriculum `step`",
    );
    check_refuses(
        "kind = \"constant\"\nprobability = 1.5",
        "`probability` of curriculum `constant` must lie in [0, 1], is 1.5",
    );
    check_refuses("kind = \"linear\"\nstart = nan\nend = 0.5", "curriculum `linear`");
    check_refuses("kind = \"linear\"\nstart = 0.0\nend = -0.5", "`end`");
    check_refuses("kind = \"exponential\"\nstart = 0.0\nend = 0.5\nbase = 0.0", "`base`");
    check_refuses("kind = \"step\"\nstages = []", "`stages`");
    check_refuses(
        "kind = \"step\"\nstages = [{ from = 0.1, probability = 0.1 }]",
        "`stages[0].from` is 0.1",
    );
    check_refuses(
        "kind = \"step\"\nstages = [{ from = 0.0, probability = 2.0 }]",
        "`stages[0].probability`",
    );
    check_refuses("kind = \"piecewise\"\npoints = []", "`points`");
    check_refuses(
        "kind = \"per_turn\"\nfactors = [1.0]\n\
         curriculum = { kind = \"constant\", probability = 2.0 }",
        "`probability` of curriculum `constant`",
    );
    check_refuses(
        "kind = \"reverse\"\ncurriculum = { kind = \"feedback\", start = 0.0, end = 0.5, \
         threshold = 0.6, rise = 0.02 }",
        "has no reverse",
    );
}

/// Curricula of every built-in kind, and whether each follows the success rate.
fn curriculum() -> impl Strategy<Value = (Value, bool)> {
    let unit = || 0.0..=1.0_f64;
    let spread = |key: &'static str| {
        proptest::collection::vec(0.0..=1.0_f64, 1..5).prop_map(move |probabilities| {
            let count = probabilities.len() as f64;
            let items = probabilities.into_iter().enumerate();
            let items =
                items.map(|(index, p)| json!({key: index as f64 / count, "probability": p}));
            items.collect::<Value>()
        })
    };
    let step = |value| (value, false);
    let simple = prop_oneof![
        unit().prop_map(move |p| step(json!({"kind": "constant", "probability": p}))),
        (unit(), unit())
            .prop_map(move |(a, b)| step(json!({"kind": "linear", "start": a, "end": b}))),
        (unit(), unit(), -8.0..8.0_f64).prop_map(move |(a, b, exponent)| {
            let base = 10_f64.powf(exponent);
            step(json!({"kind": "exponential", "start": a, "end": b, "base": base}))
        }),
        spread("from").prop_map(move |it| step(json!({"kind": "step", "stages": it}))),
        spread("at").prop_map(move |it| step(json!({"kind": "piecewise", "points": it}))),
        (unit(), unit(), unit(), unit(), unit(), 1_usize..6).prop_map(
            |(a, b, threshold, rise, fall, window)| {
                let (start, end) = (a.min(b), a.max(b));
                let value = json!({
                    "kind": "feedback", "start": start, "end": end, "threshold": threshold,
                    "rise": rise, "fall": fall, "window": window,
                });
                (value, true)
            }
        ),
    ];
    simple.prop_recursive(2, 4, 1, |inner| {
        let factors = proptest::collection::vec(0.0..10.0_f64, 1..4);
        prop_oneof![
            (inner.clone(), factors).prop_map(|((inner, follows), factors)| {
                let value = json!({"kind": "per_turn", "curriculum": inner, "factors": factors});
                (value, follows)
            }),
            inner.prop_map(|(inner, follows)| match follows {
                true => (inner, follows),
                false => (json!({"kind": "reverse", "curriculum": inner}), follows),
            }),
        ]
    })
}

proptest! {
    #[test]
    fn always_a_probability(
        (value, follows) in curriculum(), step in 0_usize..300, total in 0_usize..250,
        turn in 0_u32..9, rates in proptest::collection::vec(0.0..=1.0_f64, 0..20),
    ) {
        let registry: CurriculumRegistry = builtin();
        let curriculum = registry.build(&spec(value.clone()), &()).unwrap();
        let progress = Progress::new(step, total).at_turn(turn).after(&rates);
        let p = curriculum.noise_probability(progress);
        prop_assert!((0.0..=1.0).contains(&p), "{} from {:?}", p, value);
        prop_assert_eq!(curriculum.noise_probability(progress), p);
        prop_assert_eq!(curriculum.follows_success(), follows);
        if !follows {
            prop_assert_eq!(curriculum.noise_probability(progress.after(&[])), p);
        }
        let resolved = registry.resolve(&spec(value)).unwrap();
        prop_assert_eq!(registry.resolve(&resolved).unwrap(), resolved);
    }

    #[test]
    fn ramps_are_monotone_between_their_ends(
        start in 0.0..=1.0_f64, end in 0.0..=1.0_f64, exponent in -8.0..8.0_f64, total in 1_usize..100,
    ) {
        let base = 10_f64.powf(exponent);
        let specs = [
            Spec::of(&LinearCurriculum { start, end }).unwrap(),
            Spec::of(&ExponentialCurriculum { start, end, base }).unwrap(),
        ];
        for spec in specs {
            let curriculum = builtin().build(&spec, &()).unwrap();
            let path: Vec<f64> = (0..=total)
                .map(|step| curriculum.noise_probability(Progress::new(step, total)))
                .collect();
            prop_assert!((path[0] - start).abs() < 1e-12);
            prop_assert!((path[total] - end).abs() < 1e-12);
            let direction = (end - start).signum();
            for pair in path.windows(2) {
                prop_assert!((pair[1] - pair[0]) * direction >= -1e-12, "{:?}", path);
            }
        }
    }
}
