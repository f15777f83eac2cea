"""BM25 of zs beside that of bm25s, on the same machine, corpus, queries and number of threads.

    cargo build --release -p zs-train
    pip install bm25s PyStemmer numba
    python benches/compare/bm25s_bench.py --corpus CORPUS.jsonl.gz --questions QUESTIONS.jsonl

Passages and queries a second, and, where questions name their supporting titles, recall: a ratio
means something at equal recall only. The queries of zs go through its command line, documents
printed as JSON; the time to start and to open the index is taken off by searching twice as often.
bm25s is timed for its top-k, documents looked up, and no more. The fastest of three tries counts.
"""

import argparse
import gzip
import json
import os
import subprocess
import tempfile
import time

import bm25s
import Stemmer

TRIES = 3  # The fastest of these counts.


def read(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as file:
        text = file.read()
    if text.lstrip().startswith("["):
        return json.loads(text)
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def recall(found, questions):
    scored = [(titles, gold) for titles, gold in zip(found, questions) if gold]
    if not scored:
        return None
    return sum(len(gold & set(titles)) / len(gold) for titles, gold in scored) / len(scored)


def gold_titles(question):
    facts = question.get("supporting_facts")
    return set(facts["title"]) if isinstance(facts, dict) else set(question.get("gold_titles", []))


def bench_bm25s(passages, queries, k, repeat, threads):
    """Passages a second, queries a second, titles found."""
    stemmer = Stemmer.Stemmer("english")
    texts = [f"{it.get('title', '')}\n{it['text']}" for it in passages]
    start = time.perf_counter()
    tokens = bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False)
    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend="numba")
    index.index(tokens, show_progress=False)
    built = len(passages) / (time.perf_counter() - start)

    def search(queries):
        tokens = bm25s.tokenize(queries, stopwords="en", stemmer=stemmer, show_progress=False)
        return index.retrieve(
            tokens, corpus=passages, k=k, n_threads=threads, show_progress=False
        ).documents

    found = search(queries)  # Compiles, too.
    seconds = []
    for _ in range(TRIES):
        start = time.perf_counter()
        search(queries * repeat)
        seconds.append(time.perf_counter() - start)
    searched = len(queries) * repeat / min(seconds)
    return built, searched, [[it["title"] for it in row] for row in found]


def bench_zs(zs, corpus, queries, k, repeat, threads):
    """The same through the command line of zs."""
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}

    def run(*arguments, **options):
        start = time.perf_counter()
        done = subprocess.run(
            [zs, "--quiet", *arguments], check=True, env=environment, **options
        )
        return time.perf_counter() - start, done.stdout

    with tempfile.TemporaryDirectory() as folder:
        index, file = os.path.join(folder, "index"), os.path.join(folder, "queries.jsonl")
        built, _ = run("index", "build", "--corpus", corpus, "--out", index)

        def search(count, stdout):
            with open(file, "w", encoding="utf-8") as out:
                out.writelines(json.dumps({"query": it}) + "\n" for it in queries * count)
            return run(
                "search", "--index", index, "--queries", file, "--k", str(k), "--json",
                stdout=stdout,
            )

        _, printed = search(1, subprocess.PIPE)
        once, twice = (
            min(search(count, subprocess.DEVNULL)[0] for _ in range(TRIES))
            for count in (repeat, 2 * repeat)
        )
    rows = [json.loads(line) for line in printed.splitlines()]
    found = [[it["title"] for it in row["documents"]] for row in rows]
    return built, len(queries) * repeat / max(twice - once, 1e-9), found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zs", default="target/release/zs")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--questions", required=True)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()

    passages, questions = read(arguments.corpus), read(arguments.questions)
    queries = [it["question"] for it in questions]
    gold = [gold_titles(it) for it in questions]
    settings = (queries, arguments.k, arguments.repeat, arguments.threads)
    peer_built, peer_searched, peer_found = bench_bm25s(passages, *settings)
    seconds, searched, found = bench_zs(arguments.zs, arguments.corpus, *settings)
    built = len(passages) / seconds
    print(
        json.dumps(
            {
                "passages": len(passages),
                "queries": len(queries),
                "threads": arguments.threads,
                "bm25s": {
                    "passages_per_s": round(peer_built),
                    "queries_per_s": round(peer_searched),
                    f"recall_at_{arguments.k}": recall(peer_found, gold),
                },
                "zs": {
                    "passages_per_s": round(built),
                    "queries_per_s": round(searched),
                    f"recall_at_{arguments.k}": recall(found, gold),
                },
                "ratio_build": round(built / peer_built, 2),
                "ratio_search": round(searched / peer_searched, 2),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
