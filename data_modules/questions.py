"""Files of questions in every layout that pairs and QA sets come in, for evaluation."""

import json
import logging
from collections import Counter
from pathlib import Path

from data_modules.formats.loading import load_pairs
from data_modules.formats.reader import RecordReader
from data_modules.qa_sets.formats import read_qa
from data_modules.records import PreferencePair, QARecord
from lit_longpo.files.json_files import numbered_lines

log = logging.getLogger(__name__)

_QA_SETS = ("data", "paragraphs", "supporting_facts")  # fields that SQuAD, MuSiQue and HotpotQA records have


def read_question_records(path: str) -> list[PreferencePair] | list[QARecord]:
    """Pairs, or the questions of a published set with their passages.

    Args:
        path: a file as `PreferenceDataModule` or `QADataModule` takes it.

    Raises:
        MissingFileError: there is no such file.
        RecordError: a record is malformed.
    """
    if any(name in _first_record(Path(path)) for name in _QA_SETS):
        records = read_qa(path)
        for reason, count in Counter(record.unanswered for record in records if not record.answers).items():
            log.warning("%s: %d of %d questions are not asked: %s", path, count, len(records), reason)
        return records
    return load_pairs(path, "train", "benchmark.path", RecordReader(extra_columns="ignore", options=None))


def _first_record(path: Path) -> dict[str, object]:
    """The first record of a JSON file, or nothing; errors in the file are raised where all of it is read."""
    if path.suffix not in (".json", ".jsonl"):
        return {}
    try:
        text = next(numbered_lines(path), (0, b""))[1] if path.suffix == ".jsonl" else path.read_bytes()
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, dict) else {}
