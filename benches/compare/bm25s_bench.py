"""BM25 of bm25s, for `cargo xtask bench search --python PYTHON`, which times zs in turn with it.

    pip install bm25s PyStemmer numba

Indexes a corpus, prints the seconds that took as a line of JSON, and then answers every line of its
input with one of output:

    {"batch": N}    a batch of all queries, on all cores, N times over: seconds
    {"single": N}   the first N queries, one after the other: seconds
    {"found": 1}    places in the corpus of the best documents, for every query

What is timed goes from text to documents: queries are tokenised, documents looked up.
"""

import argparse
import gzip
import json
import os
import sys
import time

import bm25s
import Stemmer


def read(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as file:
        text = file.read()
    if text.lstrip().startswith("["):
        return json.loads(text)
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--queries", required=True)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    passages, queries = read(arguments.corpus), read(arguments.queries)
    stemmer = Stemmer.Stemmer("english")
    tokenize = {"stopwords": "en", "stemmer": stemmer, "show_progress": False}

    texts = [f"{it.get('title', '')}\n{it['text']}" for it in passages]
    start = time.perf_counter()
    tokens = bm25s.tokenize(texts, **tokenize)
    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend="numba")
    index.index(tokens, show_progress=False)
    print(time.perf_counter() - start, flush=True)
    del tokens, texts

    def search(queries, threads, corpus=passages):
        tokens = bm25s.tokenize(queries, **tokenize)
        return index.retrieve(
            tokens, corpus=corpus, k=arguments.k, n_threads=threads, show_progress=False
        ).documents

    for line in sys.stdin:
        (what, count), = json.loads(line).items()
        if what == "found":
            places = list(range(len(passages)))
            found = search(queries, arguments.threads, places)
            print(json.dumps([[int(it) for it in row] for row in found]), flush=True)
            search(queries[:1], 1)  # Compiles that, too.
            continue
        start = time.perf_counter()
        if what == "batch":
            for _ in range(count):
                search(queries, arguments.threads)
        else:
            for query in queries[:count]:
                search([query], 1)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
