"""What models trained on XQuAD are asked beside it: two-hop questions, with the paragraphs that come with them; a book.

    python -m results.other_questions --samples FOLDER --output FOLDER
    python -m results.other_questions --book FILE --output FOLDER    # book.txt: without what its distributor has added

The first writes questions.jsonl: of HotpotQA every question in ten paragraphs (1,400 tokens on average), of MuSiQue's
development set the first ones with two hops in twenty (2,600 tokens), each also about its supporting paragraphs alone.
Questions to be answered with yes or no are left out, which a substring cannot tell.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_modules.builders.sources.documents import clip
from data_modules.qa_sets.contexts import SEPARATOR, passage_text
from data_modules.qa_sets.formats import read_qa
from data_modules.records import QARecord
from results.passages import ALONE

# File below the folder of samples, and its first questions that are asked.
FILES = {"hotpotqa": ("multihop/hotpotqa_train_100.jsonl", None), "musique": ("multihop/musique_dev_200.jsonl", 70)}
_HOPS = 2


def two_hop(records: Sequence[QARecord], first: int | None) -> list[QARecord]:
    """The first questions that take two paragraphs and no yes or no."""
    kept = (item for item in records if item.answers[0].lower() not in ("yes", "no"))
    return [item for item in kept if sum(passage.supporting for passage in item.passages) == _HOPS][:first]


def asked_of(name: str, records: Sequence[QARecord]) -> Iterator[dict[str, Any]]:
    """Records of `evaluation.QA`: each question about its supporting paragraphs, then about all of its paragraphs.

    Args:
        name: of the set; stands where other suites have a length.
        records: with paragraphs.
    """
    for which in (f"{name} {ALONE}", name):
        for number, record in enumerate(records):
            passages = [item for item in record.passages if item.supporting or which == name]
            yield {
                "id": f"{which}/q{number:03}/{record.id.replace('/', '-')}",
                "question": record.question,
                "answers": list(record.answers),
                "context": SEPARATOR.join(map(passage_text, passages)),
                "depth": 0.0,  # its paragraphs lie apart
            }


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--samples", type=Path)
    what.add_argument("--book", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--first", type=int, default=None, help="of each set, for a try")
    options = parser.parse_args(words)
    options.output.mkdir(parents=True, exist_ok=True)
    if options.book:
        text = clip(options.book.read_text(encoding="utf-8-sig"), r"\*\*\* START", r"\*\*\* END")
        (options.output / "book.txt").write_text(f"{text}\n", encoding="utf-8")
        return
    lines = list[str]()
    for name, (file, first) in FILES.items():
        records = two_hop(list(read_qa(options.samples / file)), options.first or first)
        lines += [json.dumps(row, ensure_ascii=False) for row in asked_of(name, records)]
        print(f"{name}: {len(records)} questions")
    (options.output / "questions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
