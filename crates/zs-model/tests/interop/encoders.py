"""Writes small encoders with random weights and their vectors by transformers, for tests/encoder.rs.

    python encoders.py tests/encoders          # the encoders of the repository
    python encoders.py --of MODEL_DIRECTORY    # golden.json beside real weights, for ZS_TEST_ENCODER
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaModel,
)

TEXTS = [
    "What is bamboo?",
    "Bamboo is a grass whose stems are hollow. " * 9,
    "",
    "Oaks are trees, été 1848!",
    "東京 is the capital of Japan; it was called Edo until 1868.",
    "a",
    "The director of the film was born in Paris, and studied in Berlin before the war.",
]


def read(path):
    return json.loads(path.read_text()) if path.exists() else {}


def golden(directory):
    """Vectors as sentence-transformers computes them: one text at a time, in f32."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModel.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    model.eval()
    pooling = read(directory / "1_Pooling" / "config.json")
    modules = read(directory / "modules.json")
    prompts = read(directory / "config_sentence_transformers.json").get("prompts", {})
    length = read(directory / "sentence_bert_config.json")["max_seq_length"]
    rows = []
    for role in ["query", "passage"]:
        for text in TEXTS:
            given = tokenizer(
                prompts.get(role, "") + text,
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )
            with torch.no_grad():
                hidden = model(**given).last_hidden_state[0]
            is_mean = pooling["pooling_mode_mean_tokens"]
            vector = hidden.mean(0) if is_mean else hidden[0]
            if len(modules) == 3:
                vector = vector / vector.norm()
            rows.append({"role": role, "text": text, "vector": vector.tolist()})
    (directory / "golden.json").write_text(json.dumps(rows, ensure_ascii=False))


def settings(directory, is_mean, has_norm, prompts):
    (directory / "1_Pooling").mkdir(parents=True, exist_ok=True)
    names = ["Transformer", "Pooling", "Normalize"][: 3 if has_norm else 2]
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": i, "name": str(i), "path": paths[i], "type": f"sentence_transformers.models.{name}"}
        for i, name in enumerate(names)
    ]
    pooling = {
        "word_embedding_dimension": 24,
        "pooling_mode_cls_token": not is_mean,
        "pooling_mode_mean_tokens": is_mean,
    }
    for name, value in [
        ("modules.json", modules),
        ("1_Pooling/config.json", pooling),
        ("config_sentence_transformers.json", {"prompts": prompts}),
        ("sentence_bert_config.json", {"max_seq_length": 40, "do_lower_case": False}),
    ]:
        (directory / name).write_text(json.dumps(value, indent=1) + "\n")


def randomised(model, seed):
    """Weights large enough that every part of the network has an effect."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_scale = name.endswith("LayerNorm.weight")
        parameter.data = 1 + 0.1 * noise if is_scale else 0.15 * noise
    return model


def bert(directory):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=220, special_tokens=special)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    roles = {f"{role}_token": special[at] for role, at in names.items()}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles).save_pretrained(directory)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size() + 3,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=3,
        max_position_embeddings=48,
    )
    randomised(BertModel(config), 1).save_pretrained(directory)
    settings(directory, True, True, {"query": "query: ", "passage": "passage: "})
    golden(directory)


def roberta(directory):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos": 0, "pad": 1, "eos": 2, "sep": 2, "cls": 0, "unk": 3, "mask": 4}
    roles = {f"{role}_token": special[at] for role, at in names.items()}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles).save_pretrained(directory)
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=48,
        type_vocab_size=1,
        pad_token_id=1,
    )
    randomised(XLMRobertaModel(config), 2).save_pretrained(directory)
    settings(directory, False, False, {})
    golden(directory)


if sys.argv[1] == "--of":
    golden(Path(sys.argv[2]))
else:
    bert(Path(sys.argv[1]) / "bert")
    roberta(Path(sys.argv[1]) / "xlm-roberta")
