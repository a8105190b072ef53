"""Data of the real suites, from files of questions: about paragraphs, alone and among others.

    python -m results.passages questions --test FILE --train FILE --tokenizer FOLDER --output FOLDER
    python -m results.passages pairs --built FOLDER --train FOLDER/pairs.squad.json --tokenizer FOLDER --output FOLDER

`questions` writes what is asked of every model (questions.jsonl: the paragraph alone, and among paragraphs of other
articles at each length), the pairs of the first stage (sft.jsonl, from half of the training questions) and the other
half's questions (pairs.squad.json, or pairs.qa.jsonl of lines), which the model of the first stage answers in
`python -m lit_longpo build`. `pairs` puts each built pair's paragraph among others: a file for each length, the same
pairs in the same order. With `--together N` it keeps groups of N about one paragraph, which share its long context.

A two-hop question has several paragraphs, which lie apart. No other paragraph mentions an answer, and depths are dealt
out evenly. Left out are questions to be answered with yes or no, which a substring cannot tell, those that nothing
answers, and test questions one of whose articles is trained on.
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
_SEED = 0  # of other paragraphs, and of the depth that a paragraph gets


@dataclass(frozen=True)
class Evidence:
    """What answers some questions: a paragraph, or several that have to be read together.

    Args:
        name: unique in its file.
        passages: titles of the articles and texts.
    """

    name: str
    passages: tuple[Passage, ...]
    questions: tuple[QARecord, ...]

    @property
    def answers(self) -> tuple[str, ...]:
        """Of all questions."""
        return tuple(answer for question in self.questions for answer in question.answers)

    @property
    def titles(self) -> set[str]:
        """Of the articles."""
        return {passage.title for passage in self.passages}

    @property
    def text(self) -> str:
        """The passages alone."""
        return SEPARATOR.join(map(passage_text, self.passages))


def evidence_of(path: str | Path) -> list[Evidence]:
    """What the questions of a file are about, in its order."""
    found = dict[tuple[Passage, ...], list[QARecord]]()
    for record in read_qa(path):
        if record.answers and not _is_yes_or_no(record.answers):
            found.setdefault(tuple(item for item in record.passages if item.supporting), []).append(record)
    return [Evidence(f"p{n:03}", passages, tuple(items)) for n, (passages, items) in enumerate(found.items())]


def _is_yes_or_no(answers: Sequence[str]) -> bool:
    return answers[0].lower() in ("yes", "no")


def pool_of(items: Iterable[Evidence]) -> list[Passage]:
    """All passages, each once."""
    return list(dict.fromkeys(passage for item in items for passage in item.passages))


def among_others(
    passages: Sequence[Passage],
    answers: Sequence[str],
    pool: Sequence[Passage],
    depth: float,
    num_tokens: int,
    count: CountTokens,
    rng: random.Random,
) -> tuple[str, tuple[tuple[int, int], ...]]:
    """A context with the passages at their depths among passages of other titles that mention no answer.

    Args:
        passages: what is asked about.
        answers: what no other passage may mention.
        pool: other passages.
        depth: share of the others that comes before the first one; further ones follow at equal distances, round about.
        num_tokens: of the context at most.
        count: tokens of a text.
        rng: draws the others.

    Returns:
        The context, and where each of the passages begins and ends in it, in its order there.
    """
    own, titles = list(map(passage_text, passages)), {passage.title for passage in passages}
    room, others = num_tokens - count(SEPARATOR.join(own)), list[str]()
    for other in rng.sample(pool, len(pool)):
        if other.title in titles or mentions(f"{other.title} {other.text}", answers):
            continue
        size = count(SEPARATOR + passage_text(other)) + 1
        if size <= room:
            others.append(passage_text(other))
            room -= size
    return _placed(own, others, [(depth + number / len(own)) % 1 if number else depth for number in range(len(own))])


def _placed(
    own: Sequence[str], others: Sequence[str], depths: Sequence[float]
) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The text of all, own passages at their depths, and where those are in it."""
    places = sorted(zip((round(depth * len(others)) for depth in depths), own, strict=True), key=lambda item: item[0])
    text, spans, done = "", list[tuple[int, int]](), 0
    for place, passage in places:
        text += "".join(other + SEPARATOR for other in others[done:place])
        spans.append((len(text), len(text) + len(passage)))
        text, done = text + passage + SEPARATOR, place
    return (text + SEPARATOR.join(others[done:])).removesuffix(SEPARATOR), tuple(spans)


def asked(
    evidence: Sequence[Evidence], lengths: Sequence[int], most: int, count: CountTokens
) -> Iterator[dict[str, Any]]:
    """Records of `evaluation.QA`: each question about its paragraphs alone, then at each length.

    All questions about the same paragraphs share their context at a length.

    Args:
        evidence: to ask about.
        lengths: tokens of a prompt at most.
        most: questions about the same paragraphs at most.
        count: tokens of a text.
    """
    pool = pool_of(evidence)
    order = random.Random(_SEED).sample(range(len(evidence)), len(evidence))
    depths = {number: _DEPTHS[place % len(_DEPTHS)] for place, number in enumerate(order)}
    for length in (ALONE, *lengths):
        for number, item in enumerate(evidence):
            text, depth = item.text, 0.0
            if isinstance(length, int):
                rng, depth = random.Random(f"{_SEED}/{length}/{item.name}"), depths[number]
                text, _ = among_others(item.passages, item.answers, pool, depth, length - _ROOM, count, rng)
            for question in item.questions[:most]:
                name = f"{length}/{item.name}/{question.id}"
                answers = list(question.answers)
                yield {"id": name, "question": question.question, "answers": answers, "context": text, "depth": depth}


def first_stage(evidence: Iterable[Evidence]) -> Iterator[PreferencePair]:
    """The gold answer to every question about its paragraphs alone, for SFT."""
    for item in evidence:
        for question in item.questions:
            yield PreferencePair(
                question.id, question.question, item.text, "", question.answers[0], (), question.answers
            )


def together(pairs: Sequence[PreferencePair], evidence: Sequence[Evidence], size: int) -> list[PreferencePair]:
    """Pairs in groups about one paragraph, one paragraph after the other; what fills no group is left out.

    Args:
        pairs: in the order in which paragraphs and their pairs are taken.
        evidence: of all training questions.
        size: pairs of a group.
    """
    about = {question.id: item for item in evidence for question in item.questions}
    found = dict[str, list[PreferencePair]]()
    for pair in pairs:
        found.setdefault(about[pair.id].name, []).append(pair)
    return [pair for of_one in found.values() for pair in of_one[: len(of_one) // size * size]]


def lengthened(
    pairs: Sequence[PreferencePair],
    evidence: Sequence[Evidence],
    length: int,
    count: CountTokens,
    sharing: int = 1,
) -> Iterator[PreferencePair]:
    """Built pairs with the gold answer as chosen one, their paragraph alone and among others.

    Args:
        pairs: as `build` made them.
        evidence: of all training questions.
        length: tokens of a prompt at most.
        count: tokens of a text.
        sharing: neighbours that are about one paragraph and get the same context.
    """
    about = {question.id: item for item in evidence for question in item.questions}
    pool = pool_of(evidence)
    for place, pair in enumerate(pairs):
        item = about[pair.id]
        rng = random.Random(f"{_SEED}/{length}/{pair.id if sharing == 1 else item.name}")
        depth = _DEPTHS[place // sharing % len(_DEPTHS)]
        text, spans = among_others(item.passages, item.answers, pool, depth, length - _ROOM, count, rng)
        chosen = pair.answers[0]
        yield replace(pair, short_context=item.text, long_context=text, chosen=chosen, supporting=spans)


def half_of(path: str, which: int, most: int | None) -> str:
    """Every second article of a SQuAD file or every second line of another one, in the same format.

    Args:
        path: of the file.
        which: 0 or 1, the first to take.
        most: as many, for a try, and of articles their first paragraphs alone; `None` means all, whole.
    """
    text = Path(path).read_text(encoding="utf-8")
    if path.endswith(".jsonl"):
        return "\n".join(text.splitlines()[which::2][:most]) + "\n"
    document = json.loads(text)
    kept = document["data"][which::2][:most]
    if most is not None:
        kept = [{**article, "paragraphs": article["paragraphs"][:1]} for article in kept]
    return json.dumps({**document, "data": kept}, ensure_ascii=False)


def write_questions(options: argparse.Namespace) -> None:
    """Everything that needs no model."""
    folder, count = Path(options.output), _counter(options.tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    trained = {title for item in evidence_of(options.train) for title in item.titles}
    test = [item for item in evidence_of(options.test) if not item.titles & trained][: options.paragraphs]
    records = asked(test, options.lengths, options.questions, count)
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    ending = "qa.jsonl" if options.train.endswith(".jsonl") else "squad.json"
    for which, name in enumerate(("sft", "pairs")):
        half = half_of(options.train, which, options.articles)
        (folder / f"{name}.{ending}").write_text(half, encoding="utf-8")
    pairs = list(first_stage(evidence_of(folder / f"sft.{ending}")))
    write_pairs(folder / "sft.jsonl", pairs)
    print(f"{len(lines)} prompts about {len(test)} paragraphs, {len(pairs)} pairs of the first stage")


def write_pairs_of_lengths(options: argparse.Namespace) -> None:
    """Long contexts for what `build` has made; a whole number of batches, the rest is left out."""
    folder, count = Path(options.output), _counter(options.tokenizer)
    evidence = evidence_of(options.train)
    built = [pair for pair in read_pairs(Path(options.built) / "pairs.jsonl") if not _is_yes_or_no(pair.answers)]
    if options.max_f1 < 1:
        built = [pair for pair in built if _f1(pair.rejected[0], pair.answers) <= options.max_f1]
    random.Random(0).shuffle(built)
    if options.together > 1:
        kept = together(built, evidence, options.together)
    else:
        kept = built[: len(built) // options.batch * options.batch]
    folder.mkdir(parents=True, exist_ok=True)
    for length in options.lengths:
        write_pairs(
            folder / f"pairs-{length}.jsonl", lengthened(kept, evidence, length, count, sharing=options.together)
        )
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
    questions.add_argument("--questions", type=int, default=3, help="about the same paragraphs at most")
    questions.add_argument("--articles", type=int, default=None, help="or lines of each half, for a try")
    questions.set_defaults(run=write_questions)
    pairs.add_argument("--built", required=True)
    pairs.add_argument("--batch", type=int, default=8)
    pairs.add_argument("--together", type=int, default=1, help="pairs of a paragraph, in one context")
    pairs.add_argument("--max-f1", type=float, default=0.5, help="of a rejected answer against the gold ones")
    pairs.set_defaults(run=write_pairs_of_lengths)
    options = parser.parse_args(words)
    options.run(options)


if __name__ == "__main__":
    main()
