//! Model card in the directory of a pre-trained model.

use zs_model::LanguageModel;

use super::pretrain::State;
use crate::config::PretrainConfig;

/// Writes the model card: the model, its training, and the command that makes it again.
pub(crate) fn write(
    config: &PretrainConfig,
    command: &str,
    model: &LanguageModel,
    state: State,
) -> String {
    let shape = model.config();
    let phases: String = config
        .phases
        .iter()
        .map(|it| {
            let (mix, behaviours) = (it.mix, it.behaviours);
            format!(
                "| {} | {} | transcripts {}, simulation {}, reading {}, pages {}, repetition {}, \
                 induction {} | guess {}, useless query {}, careless {}, good {} |\n",
                it.name,
                it.steps,
                mix.transcript,
                mix.simulation,
                mix.reading,
                mix.page,
                mix.repetition,
                mix.induction,
                behaviours.guess,
                behaviours.useless_query,
                behaviours.careless,
                behaviours.good,
            )
        })
        .collect();
    let last_world = config.first_world_seed + config.worlds as u64 - 1;
    format!(
        "# {name}\n\n\
         A small language model for `zs reproduce`: it writes queries and copies names out of \
         documents, and behaves poorly, as a base model does. It knows {article} embedded world of \
         `zs_world` and nothing else; it is of no use outside of it.\n\n\
         - **Shape**: Llama layout, width {hidden}, {layers} layers, {heads} heads ({kv} for keys \
         and values), feed-forward {ff}, context {context}, vocabulary {vocab}, tied head.\n\
         - **Data**: synthetic text of {worlds} worlds of the training split (seeds {first} to \
         {last_world}), generated while training: pages, drills, simulated searches and \
         transcripts of mixed quality. No name of a validation or test world occurs in it.\n\
         - **Training**: seed {seed}, {steps} steps, {tokens:.1} M tokens; last training loss \
         {loss:.3} nats a token.\n\
         - **Copying**: writes {copy:.0} % of names that it has never seen in full, out of documents \
         that state them (teacher-forced, world of the validation split).\n\
         - **Licence**: MIT OR Apache-2.0, as the code.\n\n\
         | phase | steps | kinds of text | behaviour in transcripts |\n| --- | --- | --- | --- |\n\
         {phases}\n\
         Made by `{command}`.\n",
        name = config.out.file_name().map_or_else(|| "model".into(), |it| it.to_string_lossy()),
        article = if config.world.is_easy() { "the" } else { "the hard" },
        hidden = shape.hidden_size,
        layers = shape.num_hidden_layers,
        heads = shape.num_attention_heads,
        kv = shape.num_key_value_heads,
        ff = shape.intermediate_size,
        context = shape.max_position_embeddings,
        vocab = shape.vocab_size,
        worlds = config.worlds,
        first = config.first_world_seed,
        seed = config.seed,
        steps = state.step,
        tokens = state.tokens as f64 / 1e6,
        loss = state.loss,
        copy = 100.0 * state.copy_accuracy,
    )
}
