//! `zs warm-up`: every shape that sampling will meet, computed before it matters.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use burn::module::Module;
use clap::Args;
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use zs_model::{
    LanguageModel, Optimizer, OptimizerConfig, TokenId, TokenRow, WarmUpShape, supervised_step,
};

use zs_trainer::source;

use crate::session::Session;

/// Arguments of `zs warm-up`.
#[derive(Debug, Args)]
pub struct WarmUpArgs {
    /// The model (Hugging Face layout).
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Maximum number of sequences sampled at once; a rollout plays the episodes of a step together.
    #[arg(long, default_value_t = 64)]
    pub rows: usize,
    /// Maximum number of tokens of a sequence.
    #[arg(long, default_value_t = 1024)]
    pub tokens: usize,
    /// Also compute one update of this many sequences of that length; 0 computes none.
    #[arg(long, default_value_t = 0, value_name = "ROWS")]
    pub update_rows: usize,
    /// Write the times to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Something that is computed twice.
enum Work {
    Sample(WarmUpShape),
    Update { rows: usize, tokens: usize },
}

/// Computes all shapes, then all of them again, and prints what each took.
///
/// The difference between the passes is the time of compiling and tuning: minutes on a GPU whose
/// cache is empty, nothing on a CPU.
pub(crate) fn warm_up(args: &WarmUpArgs, session: &Session) -> Result<()> {
    let model = source::load_policy(&args.model, &session.context()?)?;
    let work = work(&model, args);
    let mut seconds: Vec<[f64; 2]> = vec![[0.0; 2]; work.len()];
    let progress = session.console.progress("warming up", 2 * work.len());
    for pass in 0..2 {
        for (it, seconds) in work.iter().zip(&mut seconds) {
            let start = Instant::now();
            it.run(&model);
            seconds[pass] = start.elapsed().as_secs_f64();
            progress.advance(1, &it.name());
        }
    }
    progress.finish("warm");
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header(["", "first pass", "second pass"]);
    for (it, [first, second]) in work.iter().zip(&seconds) {
        table.add_row([it.name(), format!("{first:.3} s"), format!("{second:.3} s")]);
    }
    let total = |pass: usize| seconds.iter().map(|it| it[pass]).sum::<f64>();
    table.add_row([
        "together".to_owned(),
        format!("{:.3} s", total(0)),
        format!("{:.3} s", total(1)),
    ]);
    session.print(&format!("{table}\n"));
    if let Some(path) = &args.json {
        let rows: Vec<Value> =
            work.iter().zip(&seconds).map(|(it, seconds)| it.json(*seconds)).collect();
        let names: Vec<String> = session.device.names().iter().map(ToString::to_string).collect();
        let json = json!({
            "model": args.model.display().to_string(),
            "devices": names,
            "first_s": total(0),
            "second_s": total(1),
            "work": rows,
        });
        zs_observe::write_json(path, &json)?;
    }
    Ok(())
}

fn work(model: &LanguageModel, args: &WarmUpArgs) -> Vec<Work> {
    let shapes = model.warm_up_shapes(args.rows, args.tokens);
    let mut work: Vec<Work> = shapes.into_iter().map(Work::Sample).collect();
    if args.update_rows > 0 {
        let tokens = args.tokens.min(model.config().max_position_embeddings).max(2);
        work.push(Work::Update { rows: args.update_rows, tokens });
    }
    work
}

impl Work {
    fn name(&self) -> String {
        match self {
            Self::Sample(WarmUpShape { rows, tokens }) => {
                format!("{rows} x {tokens} tokens, and one more")
            }
            Self::Update { rows, tokens } => format!("update of {rows} x {tokens} tokens"),
        }
    }

    fn json(&self, [first_s, second_s]: [f64; 2]) -> Value {
        let (kind, rows, tokens) = match *self {
            Self::Sample(WarmUpShape { rows, tokens }) => ("sample", rows, tokens),
            Self::Update { rows, tokens } => ("update", rows, tokens),
        };
        json!({
            "kind": kind, "rows": rows, "tokens": tokens, "first_s": first_s, "second_s": second_s,
        })
    }

    fn run(&self, model: &LanguageModel) {
        match *self {
            Self::Sample(shape) => model.warm_up(shape),
            Self::Update { rows, tokens } => update(model, rows, tokens),
        }
    }
}

/// An update of all weights that is thrown away.
fn update(model: &LanguageModel, rows: usize, tokens: usize) {
    let vocab_size = model.config().vocab_size;
    let row = |row: usize| TokenRow {
        tokens: (0..tokens).map(|at| ((row * 31 + at * 7 + 1) % vocab_size) as TokenId).collect(),
        loss_mask: (0..tokens).map(|at| at > 0).collect(),
    };
    let rows: Vec<TokenRow> = (0..rows).map(row).collect();
    let network = model.network().clone().train();
    let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &network);
    // Its statistics are read from the device, so it is through when this returns.
    supervised_step(network, &mut optimizer, &rows, 8 * tokens);
}
