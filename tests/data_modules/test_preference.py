"""Pairs from JSONL, parquet and data sets: the same records, the same strictness."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from support.word_tokenizer import word_tokenizer

from data_modules.preference import PreferenceDataModule
from data_modules.records import PreferencePair, write_pairs
from data_modules.strict_json import RecordError
from lit_longpo.batch import View, Views
from lit_longpo.policy import PromptFormat, PromptTemplate

PAIRS = [
    PreferencePair(
        f"p{n}", "word1 ?", "word2", f"word{20 + n} word3 word4", "word5", (f"word{10 + n}",), ("word5",), ((0, 6),)
    )
    for n in range(10)
]


def module(path: Path | str, **options: Any) -> PreferenceDataModule:
    views = Views((View("long", "chosen"), View("long", "rejected")))
    prompt_format = PromptFormat(word_tokenizer(), PromptTemplate())
    return PreferenceDataModule(str(path), views=views, prompt_format=prompt_format, **options)


def table(records: list[dict[str, Any]]) -> datasets.Dataset:
    return datasets.Dataset.from_list(records)


@pytest.fixture(params=["jsonl", "parquet", "data set"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "jsonl":
        write_pairs(tmp_path / "pairs.jsonl", PAIRS)
        return str(tmp_path / "pairs.jsonl")
    folder = tmp_path / "set"
    folder.mkdir()
    table([asdict(pair) for pair in PAIRS]).to_parquet(folder / "train.parquet")
    return str(folder if request.param == "data set" else folder / "train.parquet")


def test_every_source_gives_the_same_pairs(source: str) -> None:
    assert module(source, val_fraction=0.0).pairs("train") == PAIRS
    assert module(source, val_fraction=0.0).pairs("val") == []
    assert module(source).pairs("test") == []


def test_batches_come_out(source: str) -> None:
    data = module(source, val_fraction=0.2, max_tokens=40)
    data.setup("fit")
    train = [name for batch in data.train_dataloader() for name in batch.policy.examples]
    val = [name for batch in data.val_dataloader() for name in batch.policy.examples]
    assert len(val) == 2
    assert sorted(train + val) == [pair.id for pair in PAIRS]


def test_validation_from_a_file_of_its_own(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train.jsonl", PAIRS[:6])
    write_pairs(tmp_path / "val.jsonl", PAIRS[6:])
    data = module(tmp_path / "train.jsonl", val_path=str(tmp_path / "val.jsonl"), test_path=str(tmp_path / "val.jsonl"))
    assert (data.pairs("train"), data.pairs("val"), data.pairs("test")) == (PAIRS[:6], PAIRS[6:], PAIRS[6:])


def test_bad_row_of_a_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    rows = [asdict(PAIRS[0]), {**asdict(PAIRS[1]), "chosen": None}]
    table(rows).to_parquet(path)
    with pytest.raises(RecordError, match=r"pairs.parquet: row 2: field 'chosen'"):
        module(path).pairs("train")
    table([{**asdict(PAIRS[0]), "score": 1.0}]).to_parquet(path)
    with pytest.raises(RecordError, match=r"row 1: field 'score'"):
        module(path).pairs("train")


def test_absent_optional_columns_and_nulls_take_defaults(tmp_path: Path) -> None:
    row = {**asdict(PAIRS[0]), "answers": None}
    del row["supporting"]
    table([row]).to_parquet(tmp_path / "pairs.parquet")
    read = module(tmp_path / "pairs.parquet", val_fraction=0.0).pairs("train")
    assert read == [replace(PAIRS[0], answers=(), supporting=())]


@pytest.mark.parametrize("name", ["none.jsonl", "none.parquet"])
def test_missing_file_says_where_and_how(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=rf"{name}.*set `data.init_args.path`.*--data.path"):
        module(tmp_path / name).pairs("train")
    write_pairs(tmp_path / "train.jsonl", PAIRS)
    with pytest.raises(FileNotFoundError, match=r"set `data.init_args.val_path`"):
        module(tmp_path / "train.jsonl", val_path=str(tmp_path / name)).pairs("val")


def test_unknown_data_set_says_what_was_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"expected a file \(.jsonl, .*\.parquet\), a folder or the name of"):
        module(tmp_path / "nowhere").pairs("train")
