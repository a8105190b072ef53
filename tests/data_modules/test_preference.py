"""Pairs from JSONL, parquet and data sets: the same records, the same strictness."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from support.word_tokenizer import word_tokenizer

from data_modules.files import content
from data_modules.formats import loading
from data_modules.formats.reader import RecordReader
from data_modules.preference import PreferenceDataModule
from data_modules.records import PreferencePair, write_pairs
from data_modules.splitting import Chosen
from lit_longpo.batch import View, Views
from lit_longpo.files.strict_json import RecordError
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


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_of_a_file_is_refused_not_all_of_it(split: str, tmp_path: Path) -> None:
    """The run validated on every pair that it trained on, and held none of them out."""
    write_pairs(tmp_path / "pairs.jsonl", PAIRS)
    data = module(tmp_path / "pairs.jsonl", **{f"{split}_split": "validation"})
    expected = rf"with splits for `data.init_args.{split}_split: validation`, got .*; set `data.init_args.{split}_path`"
    with pytest.raises(ValueError, match=expected):
        data.pairs(split)
    own = module(tmp_path / "pairs.jsonl", **{f"{split}_path": str(tmp_path / "pairs.jsonl"), f"{split}_split": "x"})
    assert own.pairs(split) == PAIRS  # that file was meant


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


def test_pairs_that_were_not_built_yet_say_by_which_command(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"data.path` .*; it is written by .* build --config configs/build/mine"
    ):
        module(tmp_path / "runs/build/mine/pairs.jsonl").pairs("train")
    with pytest.raises(FileNotFoundError, match=r"on the command line\)$"):
        module(tmp_path / "build/mine/other.jsonl").pairs("train")


def test_unknown_data_set_says_what_was_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        FileNotFoundError, match=r"expected a file \(.jsonl, .*\.parquet, .*\), a folder or the name of"
    ):
        module(tmp_path / "nowhere").pairs("train")


class Large:
    """The same pairs from a file that counts as large, and how often it is read."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.reads = folder / "pairs.jsonl", 0
        write_pairs(self.path, PAIRS)
        read = loading.read_records

        def counted(*arguments: Any) -> Any:
            self.reads += 1
            return read(*arguments)

        monkeypatch.setattr(content, "_IN_MEMORY_BYTES", 0)
        monkeypatch.setattr(content, "_SOON_TOKENISED_BYTES", 0)
        monkeypatch.setattr(loading, "read_records", counted)
        monkeypatch.chdir(folder)

    def ready(self, **options: Any) -> PreferenceDataModule:
        data = module(self.path, val_fraction=0.2, max_tokens=40, **options)
        data.setup("fit")
        return data


def test_a_large_file_is_streamed_and_its_tokens_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(tmp_path / "pairs.jsonl", PAIRS)
    small = module(tmp_path / "pairs.jsonl", val_fraction=0.2, max_tokens=40)
    small.setup("fit")
    large = Large(tmp_path, monkeypatch)
    first = large.ready()
    assert isinstance(first.pairs("train"), Chosen)
    reads = large.reads
    second = large.ready()
    assert large.reads == reads > 0  # nothing is read, nothing is tokenised
    for data in (first, second):
        assert data.fingerprint() == small.fingerprint()
        assert data.reports() == small.reports()
        for loader in ("train_dataloader", "val_dataloader"):
            ours, theirs = ([row.policy.input_ids.tolist() for row in getattr(d, loader)()] for d in (data, small))
            assert ours == theirs
    assert (tmp_path / "token_cache").is_dir()


def test_what_was_changed_is_tokenised_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = Large(tmp_path, monkeypatch)
    large.ready()
    for change in ({"seed": 1}, {"max_length": 30}, {"prefix_sharing": False}):
        before = large.reads
        large.ready(**change)
        assert large.reads > before, change
        before = large.reads
        large.ready(**change)
        assert large.reads == before, change
    write_pairs(large.path, [replace(pair, chosen="word7") for pair in PAIRS])
    before = large.reads
    chosen = large.ready()._encoded["train"][0].policy[0].responses[0]
    assert large.reads > before
    assert chosen.token_ids[0] == large.ready().prompt_format.encode("word7")[0]


def test_a_folder_for_tokens_is_used_whatever_the_size(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.jsonl", PAIRS)
    data = module(tmp_path / "pairs.jsonl", val_fraction=0.2, max_tokens=40, token_cache=str(tmp_path / "kept"))
    data.setup("fit")
    assert len([path for path in (tmp_path / "kept").iterdir() if path.is_dir()]) == 2


def test_streamed_pairs_can_be_filtered_and_indexed(tmp_path: Path) -> None:
    labelled = [replace(pair, verified=number % 3 == 0) for number, pair in enumerate(PAIRS)]
    write_pairs(tmp_path / "pairs.jsonl", labelled)
    pairs = loading.stream_pairs(str(tmp_path / "pairs.jsonl"), "train", "path", RecordReader())
    assert list(pairs) == labelled
    assert (len(pairs), pairs[-1], pairs[2:4], pairs[20:]) == (10, labelled[9], labelled[2:4], [])
    kept = loading.keep_verified(pairs, "verified", "data.init_args.keep")
    assert list(kept) == labelled[::3]
    assert len(kept) == 4


def test_rows_by_all_views_are_kept_apart_on_disk(tmp_path: Path) -> None:
    """Stored tokens are the objective's own, stored lengths are those of every view."""
    write_pairs(tmp_path / "pairs.jsonl", PAIRS)
    lengths = []
    for rows_by in ("all_views", "objective", "all_views"):
        data = module(tmp_path / "pairs.jsonl", val_fraction=0, rows_by=rows_by, token_cache=str(tmp_path / "kept"))
        data.setup("fit")
        lengths.append(data._encoded["train"].lengths.tolist())
        assert {group.context for group in data._encoded["train"][0].policy} == {"long"}
    assert lengths[0] == lengths[2]
    assert all(one > other for one, other in zip(lengths[0], lengths[1], strict=True))


def test_the_first_pairs_have_tokens_of_their_own(tmp_path: Path) -> None:
    """`first` is part of what stored tokens depend on; without it they are those of before."""
    write_pairs(tmp_path / "pairs.jsonl", PAIRS)
    every, few = (module(tmp_path / "pairs.jsonl", val_fraction=0, first=first) for first in (None, 1))
    assert [pair.id for pair in few.pairs("train")] == [PAIRS[0].id]
    assert few.content("train") != every.content("train")


@pytest.mark.parametrize("cached", [False, True])
def test_the_report_names_columns_that_nothing_reads(cached: bool, tmp_path: Path) -> None:
    """As the log does, which says them once; tokens on disk are not read from the records again."""
    rows = [{**asdict(pair), "topics": ["search"], "score_of": n} for n, pair in enumerate(PAIRS)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_pairs(tmp_path / "val.jsonl", PAIRS[:1])
    options = {"val_path": str(tmp_path / "val.jsonl"), "extra_columns": "ignore"}
    for _ in range(2):
        data = module(tmp_path / "pairs.jsonl", token_cache=str(tmp_path / "cache") if cached else None, **options)
        data.setup("validate")
        data.setup("fit")
        assert data.reports()["ignored_columns"]["train"] == ["score_of", "topics"]
    plain = module(tmp_path / "val.jsonl", val_fraction=0.0)
    plain.setup("fit")
    assert plain.reports()["ignored_columns"]["train"] == []
