//! A trajectory out of a file: its invariants are checked before it becomes one.

use serde::Deserialize;
use zs_model::TokenId;

use super::{BranchOrigin, Consult, Counterfactual, ProgramCheck, Trajectory, Turn};

/// A trajectory as it stands in a file, before its invariants are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UncheckedTrajectory {
    question_id: String,
    prompt: Vec<TokenId>,
    turns: Vec<Turn>,
    truncated: bool,
    // Since version 2 of the record format.
    #[serde(default)]
    prefill: String,
    #[serde(default)]
    over_budget: bool,
    #[serde(default)]
    consults: Vec<Consult>,
    #[serde(default)]
    refused_consults: u32,
    #[serde(default)]
    programs: Vec<ProgramCheck>,
    #[serde(default)]
    branch: Option<BranchOrigin>,
    #[serde(default)]
    counterfactuals: Vec<Counterfactual>,
}

impl TryFrom<UncheckedTrajectory> for Trajectory {
    type Error = String;

    fn try_from(it: UncheckedTrajectory) -> Result<Self, Self::Error> {
        let UncheckedTrajectory { question_id, prompt, turns, truncated, .. } = it;
        if prompt.is_empty() {
            return Err(format!("`prompt` of question `{question_id}` is empty"));
        }
        let check = |what: String, tokens: usize, log_probs: usize| match tokens == log_probs {
            true => Ok(()),
            false => Err(format!(
                "{what} of question `{question_id}` has {tokens} tokens but {log_probs} `log_probs`"
            )),
        };
        for (index, Turn { completion, .. }) in turns.iter().enumerate() {
            check(format!("turn {index}"), completion.tokens.len(), completion.log_probs.len())?;
        }
        for (index, consult) in it.consults.iter().enumerate() {
            let Consult { completion, reply, reply_log_probs, turn, .. } = consult;
            check(format!("consult {index}"), completion.tokens.len(), completion.log_probs.len())?;
            if !reply_log_probs.is_empty() {
                let what = format!("the reply of consult {index}");
                check(what, reply.len(), reply_log_probs.len())?;
            }
            let previous = index.checked_sub(1).map_or(0, |at| it.consults[at].turn);
            if *turn >= turns.len() || *turn < previous {
                return Err(format!(
                    "consult {index} of question `{question_id}` has `turn` {turn}; it must be \
                     below {} and not below {previous}",
                    turns.len()
                ));
            }
        }
        if let Some(BranchOrigin { turn, .. }) = it.branch
            && turn > turns.len()
        {
            return Err(format!(
                "`branch` of question `{question_id}` has `turn` {turn}; it must not be above {}",
                turns.len()
            ));
        }
        let has_search = |turn: usize| turns.get(turn).is_some_and(|it| it.search.is_some());
        if let Some(it) = it.counterfactuals.iter().find(|it| !has_search(it.turn)) {
            return Err(format!(
                "a counterfactual of question `{question_id}` has `turn` {}, which has no search",
                it.turn
            ));
        }
        Ok(Self {
            question_id,
            prompt,
            prefill: it.prefill,
            turns,
            truncated,
            over_budget: it.over_budget,
            consults: it.consults,
            refused_consults: it.refused_consults,
            programs: it.programs,
            branch: it.branch,
            counterfactuals: it.counterfactuals,
        })
    }
}
