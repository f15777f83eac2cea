//! `zs eval`: exact match, F1 and searches of a model on a question file.

use anyhow::Result;
use burn::tensor::Device;
use zs_core::SearchEngine;
use zs_eval::{Estimate, EvalConfig, EvaluationReport, Summary, evaluate};
use zs_rl::{RolloutConfig, write_records};

use crate::cli::{EngineArgs, EvalArgs};
use crate::config::{EngineConfig, TemplatesConfig};
use crate::console::{self, Console};
use crate::files::{RunDir, SUMMARY};
use crate::{device, source};

/// Evaluates a model and prints a table.
pub(crate) fn eval(args: &EvalArgs, console: &Console) -> Result<()> {
    if let Some(out) = &args.out {
        RunDir::check_free(out)?;
    }
    let device = device::select();
    let policy = source::load_model(&args.model, &device)?;
    let mut questions = zs_eval::read_questions(&args.questions)?;
    questions.truncate(args.limit.unwrap_or(usize::MAX));
    let engine = engine(&args.engine, &device)?;
    let config = EvalConfig {
        rollout: RolloutConfig {
            temperature: 0.0,
            max_searches: args.max_searches,
            num_documents: args.k,
            programs: args.programs.clone(),
            ..source::default_rollout(zs_model::Generator::tokenizer(&policy))
        },
        batch_size: args.batch_size,
        seed: args.seed,
        noise_probability: 0.0,
    };
    let progress = console.progress("evaluating", questions.len());
    let mut num_done = 0;
    let evaluation = evaluate(&policy, engine.as_ref(), &questions, &config, &mut |it| {
        let exact = it.num_exact as f64 / it.num_done.max(1) as f64;
        progress.advance(it.num_done - num_done, &format!("exact match {exact:.3}"));
        num_done = it.num_done;
    })?;
    progress.finish(&format!("exact match {:.3}", evaluation.report.overall.exact_match.mean));
    if let Some(out) = &args.out {
        let run = RunDir::create(out)?;
        let mut lines = Vec::new();
        write_records(&mut lines, &evaluation.trajectories)?;
        run.json_lines("trajectories.jsonl")?.push_bytes(&lines)?;
        let mut records = run.json_lines("records.jsonl")?;
        for record in &evaluation.records {
            records.push(record)?;
        }
        run.write_json(
            SUMMARY,
            &serde_json::json!({
                "kind": "eval",
                "engine": engine.name(),
                "config": config,
                "stats": evaluation.stats,
                "report": evaluation.report,
            }),
        )?;
    }
    console::print(&format!("{}\n", table(&evaluation.report)));
    Ok(())
}

/// The engine that the arguments name; exactly one is given, as clap sees to.
pub(super) fn engine(
    args: &EngineArgs,
    device: &Device,
) -> Result<std::sync::Arc<dyn SearchEngine>> {
    let config = match &args.simulator {
        Some(model) => EngineConfig::Simulated {
            model: model.clone(),
            templates: TemplatesConfig::Auto,
            sampling: zs_simulator::SimulatedConfig::default(),
        },
        None => EngineConfig::Bm25 {
            corpus: args.corpus.clone(),
            index: args.index.clone(),
            world: None,
        },
    };
    source::engine(&config, device)
}

fn table(report: &EvaluationReport) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["questions", "n", "exact match", "F1", "searches", "answered"]);
    let mut add = |name: String, it: &Summary| {
        let interval =
            |it: Estimate| format!("{:.3} [{:.3}, {:.3}]", it.mean, it.ci_low, it.ci_high);
        table.add_row([
            name,
            it.n.to_string(),
            interval(it.exact_match),
            interval(it.f1),
            format!("{:.2}", it.num_searches.mean),
            format!("{:.3}", it.answered.mean),
        ]);
    };
    add("all".to_owned(), &report.overall);
    for (hops, summary) in &report.by_hops {
        add(format!("{hops}-hop"), summary);
    }
    table
}
