#!/usr/bin/env python3
"""Scores answers as the official scripts do, to check `zs score` against them.

    official_scores.py generate SEED ROWS > predictions.jsonl
    zs score --predictions predictions.jsonl --records records.jsonl
    official_scores.py compare predictions.jsonl records.jsonl
    official_scores.py golden SEED ROWS > golden_scores.jsonl

    pip install --no-deps flashrag-dev
    official_scores.py compare-flashrag predictions.jsonl records.jsonl

    official_scores.py transcripts SEED ROWS > transcripts.jsonl
    zs score --protocol zs-compat --predictions transcripts.jsonl --records records.jsonl
    official_scores.py compare-answers transcripts.jsonl records.jsonl

The functions below follow the definitions of SQuAD 1.1 (normalisation, exact match, F1), HotpotQA (F1 with
verdicts), FlashRAG (F1, precision and recall as maxima over golden answers) and ZeroSearch (containment, answers
read from prompt and response). Only Python's standard library is used. `compare-flashrag` runs FlashRAG's own metrics
instead, as they are published; its other dependencies are not needed.
"""

import collections
import importlib.util
import json
import random
import re
import string
import sys
import types
import unicodedata


def normalize(text):
    text = text.lower()
    text = "".join(ch for ch in text if ch not in set(string.punctuation))
    text = re.sub(r"\b(a|an|the)\b", " ", text)
    return " ".join(text.split())


def overlap(prediction, golden, verdicts):
    prediction, golden = normalize(prediction), normalize(golden)
    if verdicts and prediction != golden:
        if prediction in ("yes", "no", "noanswer") or golden in ("yes", "no", "noanswer"):
            return 0.0, 0.0, 0.0
    predicted, wanted = prediction.split(), golden.split()
    same = sum((collections.Counter(predicted) & collections.Counter(wanted)).values())
    if same == 0:
        return 0.0, 0.0, 0.0
    precision, recall = same / len(predicted), same / len(wanted)
    return 2 * precision * recall / (precision + recall), precision, recall


def scores(prediction, golden_answers):
    result = {
        "exact_match": any(normalize(it) == normalize(prediction) for it in golden_answers),
        "cover_exact_match": any(normalize(it) in normalize(prediction) for it in golden_answers),
    }
    for verdicts, suffix in ((False, ""), (True, "_yes_no")):
        rows = [overlap(prediction, it, verdicts) for it in golden_answers] or [(0.0, 0.0, 0.0)]
        for column, name in enumerate(("f1", "precision", "recall")):
            result[name + suffix] = max(row[column] for row in rows)
    return result


def zs_compat_prediction(prompt, response):
    matches = re.findall(r"<answer>(.*?)</answer>", prompt + response, re.DOTALL)
    return None if len(matches) <= 1 else matches[-1].strip()


WORDS = ["a", "an", "the", "A", "The", "AN", "yes", "No", "noanswer", "Paris", "paris", "U.S.", "1,000", "x_y", "and"]
SPECIAL = "Σσςİıſ\u0301\u0345\u093e\u0327ßẞǅⒶⓐⅧ²½中文\u200b\u200d\u00ad\ufeff\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u202f\u3000“”’—…·٣๓𝟘𝐀𐐀🙂\t\n\r\x0b\x0c "


def random_text(rng):
    parts = []
    for _ in range(rng.randrange(0, 7)):
        kind = rng.random()
        if kind < 0.45:
            parts.append(rng.choice(WORDS))
        elif kind < 0.65:
            parts.append(rng.choice(SPECIAL))
        elif kind < 0.75:
            parts.append(rng.choice(string.punctuation))
        elif kind < 0.85:
            parts.append("".join(rng.choice(string.ascii_letters) for _ in range(rng.randrange(1, 4))))
        else:
            while True:
                ch = chr(rng.randrange(0x110000))
                # Surrogates are no text; what is unassigned in this Python may be assigned in another.
                if unicodedata.category(ch) not in ("Cs", "Cn", "Co"):
                    break
            parts.append(ch)
        if rng.random() < 0.6:
            parts.append(" ")
    return "".join(parts)


def generate(seed, count):
    rng = random.Random(seed)
    for index in range(count):
        golden = [random_text(rng) for _ in range(rng.randrange(1, 4))]
        kind = rng.random()
        if kind < 0.2:
            prediction = golden[-1].upper()
        elif kind < 0.4:
            prediction = rng.choice(WORDS) + " " + golden[0] + rng.choice(SPECIAL) + rng.choice(WORDS)
        else:
            prediction = random_text(rng)
        yield {"id": str(index), "golden_answers": golden, "prediction": prediction}


PROMPT = (
    "Answer the given question. ... inside <answer> and </answer>, without detailed illustrations. "
    "For example, <answer> Beijing </answer>. Question: who?\n"
)
MESSAGE = (
    "\nMy previous action is invalid. If I want to search, I should put the query between <search> and </search>. "
    "If I want to give the final answer, I should put the answer between <answer> and </answer>. Let me try again.\n"
)
PIECES = [
    "<answer>", "</answer>", "<answer> x </answer>", "<search> q </search>", "<think>", "</think>", " y ", "\n",
    "\n\n<information>Doc 1: z</information>\n\n", "<information>", "</information>", MESSAGE,
    "<information><answer>doc</answer></information>",
]


def transcripts(seed, count):
    rng = random.Random(seed)
    for index in range(count):
        response = "".join(rng.choice(PIECES) for _ in range(rng.randrange(0, 9)))
        yield {"id": str(index), "question": "who?", "golden_answers": ["x"], "transcript": PROMPT + response}


def compare_answers(transcripts, records):
    transcripts, records = rows(transcripts), rows(records)
    assert len(transcripts) == len(records), (len(transcripts), len(records))
    for row, record in zip(transcripts, records):
        expected = zs_compat_prediction("", row["transcript"])
        assert record["prediction"] == expected, (record["prediction"], expected, row)
        assert record["exact_match"] == scores(expected, row["golden_answers"])["cover_exact_match"], row
    print(f"{len(records)} answers agree")


def rows(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file.read().split("\n") if line.strip()]


def compare(predictions, records):
    predictions, records = rows(predictions), rows(records)
    assert len(predictions) == len(records), (len(predictions), len(records))
    worst = 0.0
    for row, record in zip(predictions, records):
        for name, value in scores(row["prediction"], row["golden_answers"]).items():
            difference = abs(float(record[name]) - float(value))
            worst = max(worst, difference)
            assert difference < 1e-12, (name, value, record[name], row)
    print(f"{len(records)} rows agree; largest difference {worst:.1e}")


def flashrag_metrics():
    """The classes of `flashrag.evaluator.metrics`, without importing the rest of the package."""
    package = importlib.util.find_spec("flashrag").submodule_search_locations[0]
    for name in ("flashrag", "flashrag.evaluator"):
        sys.modules[name] = types.ModuleType(name)
    for name in ("utils", "metrics"):
        full = f"flashrag.evaluator.{name}"
        spec = importlib.util.spec_from_file_location(full, f"{package}/evaluator/{name}.py")
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules["flashrag.evaluator.metrics"]


def compare_flashrag(predictions, records):
    predictions, records = rows(predictions), rows(records)
    assert len(predictions) == len(records), (len(predictions), len(records))
    metrics = flashrag_metrics()
    data = types.SimpleNamespace(
        pred=[it["prediction"] for it in predictions],
        golden_answers=[it["golden_answers"] for it in predictions],
        choices=[[]],
    )
    for name, metric in [
        ("exact_match", metrics.ExactMatch),
        ("cover_exact_match", metrics.Sub_ExactMatch),
        ("f1_yes_no", metrics.F1_Score),
        ("precision_yes_no", metrics.Precision_Score),
        ("recall_yes_no", metrics.Recall_Score),
    ]:
        _, values = metric({"dataset_name": "nq"}).calculate_metric(data)
        for value, record, row in zip(values, records, predictions, strict=True):
            assert abs(float(record[name]) - value) < 1e-12, (name, value, record[name], row)
        print(f"{name}: {len(records)} rows agree, mean {sum(values) / len(values):.4f}")


def main():
    command, *rest = sys.argv[1:]
    if command == "compare-flashrag":
        compare_flashrag(*rest)
        return
    if command == "compare":
        compare(*rest)
        return
    if command == "compare-answers":
        compare_answers(*rest)
        return
    if command == "transcripts":
        for row in transcripts(int(rest[0]), int(rest[1])):
            print(json.dumps(row, ensure_ascii=True))
        return
    for row in generate(int(rest[0]), int(rest[1])):
        if command == "golden":
            row.update(scores(row["prediction"], row["golden_answers"]))
        print(json.dumps(row, ensure_ascii=True))


if __name__ == "__main__":
    main()
