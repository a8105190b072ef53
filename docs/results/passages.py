"""Data of the real suite, from SQuAD files: questions about paragraphs, alone and among others.

    python -m results.passages questions --test FILE --train FILE --tokenizer FOLDER --output FOLDER
    python -m results.passages pairs --built FOLDER --train FOLDER/pairs.squad.json --tokenizer FOLDER --output FOLDER

`questions` writes what is asked of every model (questions.jsonl: the paragraph alone, and among paragraphs of other
articles at each length), the pairs of the first stage (sft.jsonl, from half of the training articles) and the other
half's questions (pairs.squad.json), which the model of the first stage answers in `python -m lit_longpo build`.
`pairs` puts each built pair's paragraph among others: a file for each length, the same pairs in the same order.

No other paragraph mentions an answer, and depths are dealt out evenly.
"""

import argparse
import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_modules.qa_sets.contexts import SEPARATOR, CountTokens, passage_text
from data_modules.qa_sets.formats import read_qa
from data_modules.qa_sets.matching import mentions
from data_modules.records import Passage, PreferencePair, QARecord, read_pairs, write_pairs
from lit_longpo.policy import PolicyConfig
from results.outcomes import FINGERPRINT

ALONE = "alone"
_ROOM = 64  # tokens of a prompt that question and instruction may take
_DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Paragraph:
    """A paragraph and the questions about it.

    Args:
        name: unique in its file.
        passage: title of the article and text.
        questions: about it.
    """

    name: str
    passage: Passage
    questions: tuple[QARecord, ...]

    @property
    def answers(self) -> tuple[str, ...]:
        """Of all questions."""
        return tuple(answer for question in self.questions for answer in question.answers)


def paragraphs_of(path: str | Path) -> list[Paragraph]:
    """Every paragraph of a SQuAD file, in its order."""
    found = dict[str, list[QARecord]]()
    passages = dict[str, Passage]()
    for record in read_qa(path, "squad"):
        passage = next(item for item in record.passages if item.supporting)
        passages.setdefault(passage.text, passage)
        found.setdefault(passage.text, []).append(record)
    return [Paragraph(f"p{n:03}", passages[text], tuple(items)) for n, (text, items) in enumerate(found.items())]


def among_others(
    passage: Passage,
    answers: Sequence[str],
    pool: Sequence[Passage],
    depth: float,
    num_tokens: int,
    count: CountTokens,
    rng: random.Random,
) -> tuple[str, tuple[int, int]]:
    """A context with the passage at a depth among passages of other titles that mention no answer.

    Args:
        passage: what is asked about.
        answers: what no other passage may mention.
        pool: other passages.
        depth: share of the others that comes before it.
        num_tokens: of the context at most.
        count: tokens of a text.
        rng: draws the others.

    Returns:
        The context, and where the passage begins and ends in it.
    """
    room, others = num_tokens - count(passage_text(passage)), list[str]()
    for other in rng.sample(pool, len(pool)):
        if other.title == passage.title or mentions(f"{other.title} {other.text}", answers):
            continue
        size = count(SEPARATOR + passage_text(other)) + 1
        if size <= room:
            others.append(passage_text(other))
            room -= size
    before, after = others[: round(depth * len(others))], others[round(depth * len(others)) :]
    start = len(SEPARATOR.join([*before, ""])) if before else 0
    own = passage_text(passage)
    return SEPARATOR.join([*before, own, *after]), (start, start + len(own))


def asked(
    paragraphs: Sequence[Paragraph], lengths: Sequence[int], most: int, count: CountTokens, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Records of `evaluation.QA`: each question about its paragraph alone, then at each length.

    All questions about a paragraph share its context at a length.

    Args:
        paragraphs: to ask about.
        lengths: tokens of a prompt at most.
        most: questions about a paragraph at most.
        count: tokens of a text.
        seed: of the other paragraphs and of which depth a paragraph gets.
    """
    pool = [item.passage for item in paragraphs]
    order = random.Random(seed).sample(range(len(paragraphs)), len(paragraphs))
    depths = {number: _DEPTHS[place % len(_DEPTHS)] for place, number in enumerate(order)}
    for length in (ALONE, *lengths):
        for number, item in enumerate(paragraphs):
            text, depth = passage_text(item.passage), 0.0
            if isinstance(length, int):
                rng, depth = random.Random(f"{seed}/{length}/{item.name}"), depths[number]
                text, _ = among_others(item.passage, item.answers, pool, depth, length - _ROOM, count, rng)
            for question in item.questions[:most]:
                name = f"{length}/{item.name}/{question.id}"
                answers = list(question.answers)
                yield {"id": name, "question": question.question, "answers": answers, "context": text, "depth": depth}


def first_stage(paragraphs: Iterable[Paragraph]) -> Iterator[PreferencePair]:
    """The gold answer to every question about its paragraph alone, for SFT."""
    for item in paragraphs:
        for question in item.questions:
            text = passage_text(item.passage)
            yield PreferencePair(question.id, question.question, text, "", question.answers[0], (), question.answers)


def lengthened(
    pairs: Sequence[PreferencePair], paragraphs: Sequence[Paragraph], length: int, count: CountTokens, seed: int = 0
) -> Iterator[PreferencePair]:
    """Built pairs with the gold answer as chosen one, their paragraph alone and among others.

    Args:
        pairs: as `build` made them.
        paragraphs: of all training articles.
        length: tokens of a prompt at most.
        count: tokens of a text.
        seed: of the other paragraphs.
    """
    about = {question.id: item for item in paragraphs for question in item.questions}
    pool = [item.passage for item in paragraphs]
    for place, pair in enumerate(pairs):
        item, rng = about[pair.id], random.Random(f"{seed}/{length}/{pair.id}")
        depth = _DEPTHS[place % len(_DEPTHS)]
        text, span = among_others(item.passage, item.answers, pool, depth, length - _ROOM, count, rng)
        short = passage_text(item.passage)
        chosen = pair.answers[0]
        yield replace(pair, short_context=short, long_context=text, chosen=chosen, supporting=(span,))


def half_of(path: str, which: int, articles: int | None) -> dict[str, Any]:
    """Every second article of a SQuAD file; of a few, their first paragraphs alone.

    Args:
        path: of the file.
        which: 0 or 1, the first article to take.
        articles: as many, for a try; `None` means all, whole.
    """
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    kept = document["data"][which::2][:articles]
    if articles is not None:
        kept = [{**article, "paragraphs": article["paragraphs"][:1]} for article in kept]
    return {**document, "data": kept}


def write_questions(options: argparse.Namespace) -> None:
    """Everything that needs no model."""
    folder, count = Path(options.output), _counter(options.tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    test = paragraphs_of(options.test)[: options.paragraphs]
    records = asked(test, options.lengths, options.questions, count)
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for which, name in enumerate(("sft", "pairs")):
        half = half_of(options.train, which, options.articles)
        (folder / f"{name}.squad.json").write_text(json.dumps(half, ensure_ascii=False), encoding="utf-8")
    pairs = list(first_stage(paragraphs_of(folder / "sft.squad.json")))
    write_pairs(folder / "sft.jsonl", pairs)
    print(f"{len(lines)} prompts about {len(test)} paragraphs, {len(pairs)} pairs of the first stage")


def write_pairs_of_lengths(options: argparse.Namespace) -> None:
    """Long contexts for what `build` has made; a whole number of batches, the rest is left out."""
    folder, count = Path(options.output), _counter(options.tokenizer)
    built = read_pairs(Path(options.built) / "pairs.jsonl")
    if options.max_f1 < 1:
        built = [pair for pair in built if _f1(pair.rejected[0], pair.answers) <= options.max_f1]
    random.Random(0).shuffle(built)
    kept = built[: len(built) // options.batch * options.batch]
    paragraphs = paragraphs_of(options.train)
    folder.mkdir(parents=True, exist_ok=True)
    for length in options.lengths:
        write_pairs(folder / f"pairs-{length}.jsonl", lengthened(kept, paragraphs, length, count))
    said = json.dumps([[pair.id, pair.rejected] for pair in kept])  # samples are others on another machine
    (folder / FINGERPRINT).write_text(hashlib.sha256(said.encode()).hexdigest()[:12] + "\n")
    print(f"{len(kept)} pairs of {len(built)}")


def _f1(text: str, answers: Sequence[str]) -> float:
    from data_modules.builders.recipes.judges import TokenF1

    return TokenF1().score(text, answers)


def _counter(tokenizer: str) -> CountTokens:
    encode = PolicyConfig(source=tokenizer).prompt_format().encode
    return lambda text: len(encode(text))


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    questions, pairs = commands.add_parser("questions"), commands.add_parser("pairs")
    for command in (questions, pairs):
        command.add_argument("--train", required=True)
        command.add_argument("--tokenizer", required=True)
        command.add_argument("--output", required=True)
        command.add_argument("--lengths", type=int, nargs="+", required=True)
    questions.add_argument("--test", required=True)
    questions.add_argument("--paragraphs", type=int, default=None)
    questions.add_argument("--questions", type=int, default=3, help="about a paragraph at most")
    questions.add_argument("--articles", type=int, default=None, help="of each half, for a try")
    questions.set_defaults(run=write_questions)
    pairs.add_argument("--built", required=True)
    pairs.add_argument("--batch", type=int, default=8)
    pairs.add_argument("--max-f1", type=float, default=0.5, help="of a rejected answer against the gold ones")
    pairs.set_defaults(run=write_pairs_of_lengths)
    options = parser.parse_args(words)
    options.run(options)


if __name__ == "__main__":
    main()
