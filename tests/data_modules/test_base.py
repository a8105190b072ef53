"""Pairs -> packed batches: exactly the views asked, length policy, resume under Lightning, ranks."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from support.word_tokenizer import word_tokenizer

from data_modules.base import PairDataModule, collate
from data_modules.records import PreferencePair
from data_modules.rows.encoding import PairEncoder, supporting_spans
from data_modules.rows.positions import PositionSynthesis
from data_modules.rows.token_store import TokenStore
from data_modules.rows.truncation import LengthPolicy, OverlengthError, SplitLengths
from lit_longpo.batch import PreferenceBatch, View, Views
from lit_longpo.policy import PromptFormat, PromptTemplate

FORMAT = PromptFormat(word_tokenizer(), PromptTemplate())
LC, LR, SC, SR = (View(c, r) for c in ("long", "short") for r in ("chosen", "rejected"))
SOLOPO_DPO = Views((SC, SR, LC), (SC, SR, LC))
LONGPO = Views((LC, LR), (SC, SR))
SFT = Views((LC,))
VIEWS = {"sft": SFT, "dpo": Views((LC, LR), (LC, LR)), "solopo": SOLOPO_DPO, "longpo": LONGPO}


def words(first: int, count: int) -> str:
    return " ".join(f"word{(first + n) % 80}" for n in range(count))


def pair(number: int, long: int = 20, rejected: int = 2) -> PreferencePair:
    """Long context: a distractor, the fact (3 words), the other distractor. Short context: the fact."""
    fact = words(number, 3)
    before, after = words(40, (long - 3) // 2), words(60, long - 3 - (long - 3) // 2)
    context = f"{before}\n\n{fact}\n\n{after}"
    start = context.index(fact, len(before))
    return PreferencePair(
        f"r{number}",
        words(5, 2),
        fact,
        context,
        words(number, 1),
        tuple(words(number + 1 + m, 2) for m in range(rejected)),
        supporting=((start, start + len(fact)),),
    )


class Pairs(PairDataModule):
    def __init__(self, train: int = 12, val: int = 3, **options: Any) -> None:
        super().__init__(**{"prompt_format": FORMAT, "views": SOLOPO_DPO, "max_tokens": 80, **options})
        self.sizes = {"train": train, "val": val, "test": 0}

    def pairs(self, split: str) -> list[PreferencePair]:
        return [pair(n, long=10 + n % 5) for n in range(self.sizes[split])]


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("sharing", [True, False])
def test_only_the_views_asked_are_scored(name: str, sharing: bool) -> None:
    views = Views(VIEWS[name].policy, VIEWS[name].reference, num_rejected=2)
    encoder = PairEncoder(FORMAT, views, LengthPolicy(), prefix_sharing=sharing)
    batch = collate([encoder.encode(pair(n), SplitLengths()) for n in range(2)])

    def slots(wanted: tuple[View, ...]) -> set[tuple[Any, ...]]:
        return {
            (example, view.context, view.role, index)
            for example in range(2)
            for view in wanted
            for index in range(2 if view.role == "rejected" else 1)
        }

    assert {(s.example, s.context, s.role, s.index) for s in batch.policy.slots} == slots(views.policy)
    answer = {"chosen": 2, "rejected": 3}  # end-of-sequence included
    assert len(batch.policy.score_targets) == sum(answer[role] for _, _, role, _ in slots(views.policy))
    if not views.reference:
        assert batch.reference is None
    elif views.reference == views.policy:
        assert batch.reference is batch.policy
    else:
        found = {(s.example, s.context, s.role, s.index) for s in batch.reference.slots}
        assert found == slots(views.reference)


def test_contexts_nobody_asks_for_are_not_tokenised() -> None:
    seen = []

    class Recording(PromptFormat):
        def encode(self, text: str) -> tuple[int, ...]:
            seen.append(text)
            return super().encode(text)

    encoder = PairEncoder(Recording(word_tokenizer(), PromptTemplate()), SFT, LengthPolicy())
    encoder.encode(pair(0), SplitLengths())
    assert pair(0).long_context in seen
    assert pair(0).short_context not in seen
    assert not set(pair(0).rejected) & set(seen)


def test_chosen_comes_first_whatever_the_order_of_views() -> None:
    encoded = PairEncoder(FORMAT, Views((SR, SC), num_rejected=2), LengthPolicy()).encode(pair(0), SplitLengths())
    roles = [(response.role, response.index) for response in encoded.policy[0].responses]
    assert roles == [("chosen", 0), ("rejected", 0), ("rejected", 1)]


def test_too_few_rejected_is_named() -> None:
    encoder = PairEncoder(FORMAT, Views((LC, LR), num_rejected=3), LengthPolicy())
    with pytest.raises(ValueError, match=r"expected 3 rejected answers in record 'r0', got 2.*num_rejected"):
        encoder.encode(pair(0), SplitLengths())


@given(
    st.integers(8, 60),
    st.integers(4, 60),
    st.sampled_from(["middle", "passages"]),
    st.sampled_from(list(VIEWS)),
)
@settings(max_examples=150, deadline=None)
def test_only_the_context_is_ever_cut(long: int, limit: int, truncation: Any, name: str) -> None:
    record, counts = pair(3, long), SplitLengths()
    encoder = PairEncoder(FORMAT, VIEWS[name], LengthPolicy(limit, "truncate", truncation))
    whole = PairEncoder(FORMAT, VIEWS[name], LengthPolicy()).encode(record, SplitLengths())
    try:
        cut = encoder.encode(record, counts)
    except OverlengthError:
        return
    lost = 0
    for before, after in zip(whole.policy, cut.policy, strict=True):
        assert after.responses == before.responses
        assert len(after.prompt_ids) + max(len(r.token_ids) for r in after.responses) <= limit
        assert after.prompt_ids[0] == before.prompt_ids[0]  # bos
        assert after.prompt_ids[-2:] == before.prompt_ids[-2:]  # question
        fact = FORMAT.encode(record.short_context)
        if truncation == "passages":
            assert any(after.prompt_ids[i : i + 3] == fact for i in range(len(after.prompt_ids)))
        lost += len(before.prompt_ids) - len(after.prompt_ids)
    if name != "longpo":  # there the reference has a context of its own
        assert counts.tokens_lost == lost
    assert counts.cut == (counts.tokens_lost > 0)


def test_error_and_skip() -> None:
    with pytest.raises(OverlengthError, match=r"at most 10 tokens .* record 'r0' \(long context\), got 25"):
        PairEncoder(FORMAT, SFT, LengthPolicy(10, "error")).encode(pair(0), SplitLengths())
    counts = SplitLengths()
    assert PairEncoder(FORMAT, SFT, LengthPolicy(10, "skip")).encode(pair(0), counts) is None
    assert counts == SplitLengths(examples=1, skipped=1)


def test_supporting_passages_are_found_in_the_short_context() -> None:
    text = pair(0).short_context
    spans = supporting_spans(pair(0), text)
    assert [text[start:end] for start, end in spans] == [pair(0).short_context]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6, unique=True), st.sampled_from(list(VIEWS)))
@settings(max_examples=40, deadline=None)
def test_store_gives_back_what_it_took(numbers: list[int], name: str) -> None:
    encoder = PairEncoder(FORMAT, VIEWS[name], LengthPolicy())
    examples = [encoder.encode(pair(number), SplitLengths()) for number in numbers]
    store = TokenStore(examples)
    assert list(store) == examples
    assert store.names == [f"r{number}" for number in numbers]
    same = VIEWS[name].reference == VIEWS[name].policy
    assert all((example.reference is example.policy) == same for example in store)


@given(st.integers(1, 15), st.integers(45, 150), st.integers(1, 5) | st.none())
@settings(max_examples=25, deadline=None)
def test_batches_hold_every_example_once(train: int, max_tokens: int, max_examples: int | None) -> None:
    data = Pairs(train, max_tokens=max_tokens, max_examples=max_examples)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert sorted(name for batch in batches for name in batch.policy.examples) == sorted(f"r{n}" for n in range(train))
    assert all(batch.policy.num_tokens <= max_tokens for batch in batches)
    assert all(len(batch.policy.examples) <= (max_examples or 99) for batch in batches)


def test_reference_rows_cover_train_and_val_once() -> None:
    data = Pairs(views=LONGPO)
    data.setup("fit")
    rows = list(data.reference_dataloader())
    assert [name for row in rows for name in row.examples] == [f"r{n}" for n in [*range(12), *range(3)]]
    wanted = {
        f
        for loader in (data.train_dataloader(), data.val_dataloader())
        for b in loader
        for f in b.reference.fingerprints
    }
    assert {fingerprint for row in rows for fingerprint in row.fingerprints} == wanted
    data = Pairs(views=SFT)
    data.setup("fit")
    assert list(data.reference_dataloader()) == []


@pytest.mark.parametrize("num_replicas", [2, 3])
def test_ranks_share_the_work(num_replicas: int) -> None:
    seen, counts = set(), set()
    for rank in range(num_replicas):
        data = Pairs()
        data.setup("fit")
        ranks = {"num_replicas": num_replicas, "rank": rank}
        data.trainer = SimpleNamespace(
            distributed_sampler_kwargs=ranks, strategy=SimpleNamespace(root_device=torch.device("cpu"))
        )
        names = [batch.policy.examples for batch in data.train_dataloader()]
        counts.add((len(names), len(list(data.reference_dataloader()))))
        seen.update(name for row in names for name in row)
    assert seen == {f"r{n}" for n in range(12)}
    assert len(counts) == 1


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match="needs `views`"):
        Pairs(views=None).setup("fit")
    data = Pairs(train=0)
    data.setup("fit")
    with pytest.raises(ValueError, match="expected examples in the train split, got none"):
        data.train_dataloader()


class Recorder(LightningModule):
    """Learns nothing; remembers which examples it saw in which epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, tuple[str, ...]]] = []

    def training_step(self, batch: PreferenceBatch, batch_idx: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch.policy.examples))
        return self.weight * 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def _fit(folder: Path, max_epochs: int, ckpt_path: Path | None = None, **options: Any) -> Recorder:
    module = Recorder()
    checkpoints = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        callbacks=[] if ckpt_path else [checkpoints],
        enable_checkpointing=ckpt_path is None,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    ).fit(module, datamodule=Pairs(**options), ckpt_path=ckpt_path)
    return module


@pytest.mark.parametrize("num_workers", [0, 1])
def test_resumed_fit_sees_what_an_uninterrupted_one_does(tmp_path: Path, num_workers: int) -> None:
    """From a checkpoint after any step, the last of an epoch included."""
    whole = _fit(tmp_path, max_epochs=3, num_workers=num_workers).seen
    assert len({frozenset(rows) for rows in whole}) > len(whole) / 3  # epochs differ
    steps = range(1, len(whole)) if num_workers == 0 else [len(whole) // 2]
    for step in steps:
        resumed = _fit(tmp_path, 3, tmp_path / f"step={step}.ckpt", num_workers=num_workers)
        assert resumed.seen == whole[step:], step


def test_report_lies_in_the_run_folder(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    trainer = Trainer(
        accelerator="cpu", logger=logger, max_steps=1, enable_progress_bar=False, enable_model_summary=False
    )
    data = Pairs(max_length=16, on_overlength="truncate")
    trainer.fit(Recorder(), datamodule=data)
    report = json.loads((Path(logger.log_dir) / "data_report.json").read_text())["truncation"]
    assert report["train"]["examples"] == 12
    assert report["train"]["cut"] > 0
    assert report["train"]["tokens_lost"] == data.truncation["train"].tokens_lost > 0
    assert set(report) == {"train", "val"}


def test_long_prompts_can_be_made_of_short_ones():
    positions = PositionSynthesis(400, 2)
    data = Pairs(positions=positions, long_positions="synthesised", max_tokens=200)
    data.setup("fit")
    batch = next(iter(data.train_dataloader())).policy
    assert batch.position_ids.max() == 399
    longest = max(len(p.short_context.split()) for p in data.pairs("train"))
    true = next(iter(_ready(Pairs(max_tokens=200)).train_dataloader())).policy
    assert batch.num_tokens < true.num_tokens
    distractors = {FORMAT.encode(word)[0] for word in ("word40", "word60")}  # of every long context, and no short one
    assert distractors & set(true.input_ids.flatten().tolist())
    assert not distractors & {t for row in data.train_dataloader() for t in row.policy.input_ids.flatten().tolist()}
    assert data.reports()["positions"] == {"train": {"stretched": 12}, "val": {"stretched": 3}}
    assert longest == 3
    with pytest.raises(ValueError, match="target_length"):
        Pairs(long_positions="synthesised")


def test_prompts_too_long_for_their_positions_are_counted_or_refused(caplog):
    rows = _ready(Pairs())._encoded["train"]
    lengths = sorted(group.num_tokens for row in rows for group in row.policy if group.context == "long")
    with caplog.at_level(logging.WARNING):
        data = _ready(Pairs(positions=PositionSynthesis(lengths[len(lengths) // 2], 2)))
    assert data.reports()["positions"]["train"]["too_long"] > 0
    assert "keep their true positions" in caplog.text
    with pytest.raises(ValueError, match=r"train: 12 of 12 long prompts.*raise it"):
        _ready(Pairs(positions=PositionSynthesis(4, 2)))
    assert _ready(Pairs(positions=PositionSynthesis(4, 2, scheme="none"))).reports()["positions"]["train"] == {}


def _ready(data):
    data.setup("fit")
    return data
