//! Texts of models: actions of a policy, documents of a simulation LLM, verdicts of judges.

use zs_core::{
    Document, YesNoRule, cover_exact_match, exact_match, f1, neutralize_tags, parse_action,
    prefill, render_observation, strip_answer, without_thoughts,
};
use zs_data::Dump;
use zs_rl::consult::{HelperKind, parse_consult};

use crate::Scratch;

pub(crate) fn actions(_: &Scratch, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = parse_action(&text);
    let _ = parse_action(without_thoughts(&text));
    let _ = prefill(&text);
    let _ = parse_consult(&text, &HelperKind::ALL);
    let neutral = neutralize_tags(&text);
    assert_eq!(neutralize_tags(&neutral), neutral, "tags are left");
    let document = Document {
        id: String::new(),
        title: text.chars().take(8).collect(),
        text: text.into_owned(),
        score: None,
    };
    let _ = render_observation(&[document], true);
}

pub(crate) fn simulator_replies(_: &Scratch, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for k in [0, 1, 5] {
        assert!(
            zs_simulator::parse_documents(&text, k).len() <= k,
            "more documents than asked for"
        );
    }
    let _ = Dump::parse(&text, None, "who?");
    let _ = zs_simulator::collect::check_query(&text);
}

pub(crate) fn verdicts(_: &Scratch, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = zs_rl::judge::parse_verdict(&text);
    let _ = zs_simulator::collect::parse_verdict(&text);
}

pub(crate) fn answers(_: &Scratch, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (answer, golden) = text.split_once('\n').unwrap_or((&text, ""));
    let golden = [golden.to_owned()];
    let _ = strip_answer(answer);
    let _ = exact_match(answer, &golden);
    let _ = cover_exact_match(answer, &golden);
    let overlap = f1(answer, &golden, YesNoRule::Ignore);
    assert!((0.0..=1.0).contains(&overlap), "F1 outside of [0, 1]");
}
