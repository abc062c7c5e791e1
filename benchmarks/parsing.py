"""The default parser on UD English EWT, beside UDPipe 1 trained in the same run.

python -m benchmarks.parsing [--tags] [--held-out] [--seed N]
"""

import argparse
import gzip
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import is_quick, report, script
from benchmarks.runs import data_folder, widemax

FILES = "ud_english_ewt/en_ewt-ud-{}.conllu.gz"
QUICK_SENTENCES = 300
TAGS = "UPOS,XPOS,FEATS"


def write(part: str, folder: Path) -> Path:
    """One part of the treebank, unzipped; its first sentences in a quick run."""
    text = gzip.decompress((data_folder() / FILES.format(part)).read_bytes()).decode()
    if is_quick():
        text = "\n\n".join(text.split("\n\n")[:QUICK_SENTENCES]) + "\n\n"
    path = folder / f"{part}.conllu"
    path.write_text(text, encoding="utf-8")
    return path


def ours(train: Path, valid: Path, test: Path, *, tags: bool, seed: int) -> dict[str, Any]:
    """Scores of widemax, and its processor seconds."""
    run = train.parent / "run"
    options = ["--input", TAGS] if tags else []
    if is_quick():
        options += ["--set", "train.epochs=2"]
    trained = widemax(
        *("train", str(train), "--valid", str(valid), "--out", str(run), "--seed", str(seed), *options)
    )
    evaluated = widemax("evaluate", str(run), str(test)).values
    scores = {name: evaluated[name] for name in ("uas", "las", "clas", "mlas", "words_per_s")}
    return {"model": "widemax", **scores, "train_cpu_s": trained.cpu_seconds, "train_s": trained.seconds}


def udpipe(train: Path, valid: Path, test: Path, *, tags: bool) -> dict[str, Any]:
    """Scores of UDPipe 1 with its default options; without gold tags it tags the words first."""
    from ufal import udpipe as peer

    def sentences(path: Path) -> Any:
        reader = peer.InputFormat.newInputFormat("conllu")
        reader.setText(path.read_text(encoding="utf-8"))
        found, sentence = peer.Sentences(), peer.Sentence()
        while reader.nextSentence(sentence):
            found.push_back(sentence)
            sentence = peer.Sentence()
        return found

    parser_options = "iterations=2" if is_quick() else ""
    tagger_options = "iterations=2" if is_quick() else ""
    error = peer.ProcessingError()
    started, cpu = time.perf_counter(), time.process_time()
    model_text = peer.Trainer.train(
        "morphodita_parsito",
        sentences(train),
        sentences(valid),
        peer.Trainer.NONE,
        peer.Trainer.NONE if tags else tagger_options,
        parser_options,
        error,
    )
    if error.occurred():
        raise RuntimeError(error.message)
    train_cpu_s, train_s = time.process_time() - cpu, time.perf_counter() - started
    path = train.parent / "udpipe.model"
    path.write_bytes(model_text if isinstance(model_text, bytes) else model_text.encode("latin-1"))
    model = peer.Model.load(str(path))
    words = 0
    parse_s = 0.0

    def answers() -> Iterator[tuple[list[int], list[str]]]:
        nonlocal words, parse_s
        for sentence in sentences(test):
            if not tags:
                model.tag(sentence, peer.Model.DEFAULT)
            started = time.perf_counter()
            model.parse(sentence, peer.Model.DEFAULT)
            parse_s += time.perf_counter() - started
            found = list(sentence.words)[1:]
            words += len(found)
            yield [word.head for word in found], [word.deprel for word in found]

    scores = scores_of(test, answers)
    return {
        "model": "UDPipe 1",
        **scores,
        "words_per_s": words / parse_s,
        "train_cpu_s": train_cpu_s,
        "train_s": train_s,
    }


def scores_of(test: Path, answers: Callable[[], Iterator[tuple[list[int], list[str]]]]) -> dict[str, float]:
    """Attachment scores of answers, in the order of a treebank."""
    from widemax.parsing import Attachment, read_conllu

    scores = Attachment()
    for gold, (heads, relations) in zip(read_conllu(test), answers(), strict=True):
        scores.add(gold, heads, relations)
    values = scores.values()
    return {name: values[name] for name in ("uas", "las", "clas", "mlas")}


def main(argv: Sequence[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="parsing")
    parser.add_argument("--tags", action="store_true", help="Give both the gold tags.")
    parser.add_argument("--held-out", action="store_true", help="Score the sentences that choose the epoch.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        train, valid, test = (write(part, Path(folder)) for part in ("train", "dev", "test"))
        test = valid if options.held_out else test
        rows = [
            ours(train, valid, test, tags=options.tags, seed=options.seed),
            udpipe(train, valid, test, tags=options.tags),
        ]
    read = TAGS if options.tags else "words"
    rows = [{"read": read, "sentences": "held out" if options.held_out else "test", **row} for row in rows]
    report("parsing", rows, seed=options.seed)
    las = {row["model"]: round(row["las"], 4) for row in rows}
    ratios = {name: round(rows[0][name] / rows[1][name], 3) for name in ("train_cpu_s", "words_per_s")}
    return {"benchmark": "parsing", "ratio": rows[0]["las"] / rows[1]["las"], **las, **ratios}


if __name__ == "__main__":
    script(main)
