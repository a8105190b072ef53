"""Every sample of the field's formats trains every kind of model, and what is trained is what the sample means.

The samples are no part of the repository: where they are not, nothing here runs.
"""

import json
import math
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
import transformers
from safetensors.torch import load_file
from support.chat_formats import chat_bpe_tokenizer, needs_sanitizing
from support.command_line import CONFIGS
from support.tiny_hybrids import SHARED, hybrid_config
from support.tiny_models import tiny_config

from lit_longpo import __main__ as command
from lit_longpo.batch import PreferenceBatch
from lit_longpo.objectives import PreferenceModule

SAMPLES = Path(__file__).resolve().parents[2].parent / "shared/data/formats"
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the shared samples are not here")
SLOW = pytest.mark.slow

TWINS = ("Qwen2", "Llama", "Qwen3_5Text", "GptOss", "Gemma2")
MAPPING = {"long_context": "doc", "question": "ask", "chosen": "good", "rejected": "bad"}
PREFERENCES: dict[str, tuple[str, ...]] = {  # file: the options that it takes
    "alpaca_ranking.json": (),
    "columns.jsonl": ("--data.columns", json.dumps(MAPPING), "--data.extra_columns", "ignore"),
    "sharegpt_ranking.json": (),
    "trl_conversational.jsonl": (),
    "trl_implicit.jsonl": (),
    "trl_plain.jsonl": (),
    "ultrafeedback.jsonl": (),
}
SFT_ONLY = "trl_messages_sft.jsonl"
NO_SYSTEM = {"columns.jsonl", "trl_plain.jsonl"}  # formats that keep no system message
# The fifth record of one sample, which the table of meanings has not.
FIFTH = {
    "messages": [
        {"role": "user", "content": "The west gate closes at dusk. The east gate stays open."},
        {"role": "assistant", "content": "Understood."},
        {"role": "user", "content": "Which gate stays open?"},
    ],
    "chosen": "The east gate",
    "rejected": ["The west gate"],
}
SMALL = (
    *("--policy.template.chat", "null", "--policy.template.user", "{context}\n\n{question}"),
    *("--data.val_fraction", "0", "--data.max_examples", "2", "--trainer.max_steps", "3", "--trainer.max_epochs", "-1"),
    *("--trainer.logger", "false", "--trainer.callbacks", "[SavePretrained]", "--trainer.enable_progress_bar", "false"),
    *("--trainer.enable_model_summary", "false", "--trainer.enable_checkpointing", "false"),
    *("--trainer.val_check_interval", "null", "--trainer.limit_val_batches", "0"),
)

Record = dict[str, Any]
Row = list[int]


class Twins(Protocol):
    def __call__(self, name: str) -> Path: ...


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    """Folders of tiny models, with a chat tokenizer that knows every text; each made once."""
    root, chat = tmp_path_factory.mktemp("twins"), chat_bpe_tokenizer("chatml")

    def folder(name: str) -> Path:
        if not (root / name).is_dir():
            config = (hybrid_config if name in SHARED else tiny_config)(name, vocab_size=len(chat))
            torch.manual_seed(0)
            transformers.AutoModelForCausalLM.from_config(config).save_pretrained(root / name)
            chat.save_pretrained(root / name)
        return root / name

    return folder


class Steps:
    """What the training steps of a run saw."""

    def __init__(self) -> None:
        self.rows, self.losses = list[Row](), list[float]()

    def consist_of(self, expected: list[Row]) -> bool:
        """Whether each row is some of the expected ones, one behind the other, and each of these was trained."""
        found = [number for row in self.rows for number in _parts(row, expected)]
        return set(found) == set(range(len(expected)))


def _parts(row: Row, expected: list[Row]) -> list[int]:
    if not row:
        return []
    number = next(number for number, part in enumerate(expected) if row[: len(part)] == part)
    return [number, *_parts(row[len(expected[number]) :], expected)]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    seen, step = Steps(), PreferenceModule.training_step

    def training_step(module: PreferenceModule, batch: PreferenceBatch, number: int) -> torch.Tensor:
        loss = step(module, batch, number)
        seen.rows.append(batch.policy.input_ids[0].tolist())
        seen.losses.append(loss.item())
        return loss

    monkeypatch.setattr(PreferenceModule, "training_step", training_step)
    return seen


def meanings(sample: str) -> list[Record]:
    """The records of a sample, as its folder's table has them."""
    records = [json.loads(line) for line in (SAMPLES / "expected.jsonl").read_text().splitlines()]
    if sample in NO_SYSTEM:
        records = [r | {"messages": [m for m in r["messages"] if m["role"] != "system"]} for r in records]
    return [*records, FIFTH] if sample == "trl_conversational.jsonl" else records


def row_of(record: Record, answers: list[str], context: str | None = None) -> Row:
    """A prompt and its answers side by side, by transformers' own template; `context` in place of the record's."""
    chat, messages = chat_bpe_tokenizer("chatml"), record["messages"]
    if context is not None:
        messages = [m | {"content": m["content"].replace(record["context"], context)} for m in messages]

    def tokens(messages: list[Record], **options: bool) -> Row:
        return list(chat.apply_chat_template(messages, sanitize_control_tokens=True, **options)["input_ids"])

    row = prompt = tokens(messages, add_generation_prompt=True)
    for text in answers:
        whole = tokens([*messages, {"role": "assistant", "content": text}])
        row = row + whole[len(prompt) : whole.index(chat.eos_token_id, len(prompt)) + 1]
    return row


def fit(objective: str, path: Path, model: Path, where: Path, *options: str) -> None:
    """A few steps through the command line; all weights that are saved must be others than at the start."""
    source = ("--policy.source", model, "--data", CONFIGS / "data/pairs.yaml", "--data.path", path)
    words = ("fit", "--config", CONFIGS / f"{objective}.yaml", *source, *SMALL, *options)
    command.main([*map(str, words), "--trainer.default_root_dir", str(where)])
    before, after = (load_file(folder / "model.safetensors") for folder in (model, where / "model"))
    assert before.keys() == after.keys()
    assert [name for name in after if torch.equal(after[name], before[name])] == []


def train(sample: str, name: str, objective: str, twin: Twins, steps: Steps, where: Path) -> None:
    fit(objective, SAMPLES / sample, twin(name), where, *PREFERENCES[sample])
    assert steps.losses
    assert all(map(math.isfinite, steps.losses))
    assert steps.consist_of([row_of(r, [r["chosen"], *r["rejected"]]) for r in meanings(sample)])


@needs_sanitizing
def test_a_sample_trains_a_twin(twin: Twins, steps: Steps, tmp_path: Path) -> None:
    train("trl_conversational.jsonl", "Qwen2", "simpo", twin, steps, tmp_path)


@needs_sanitizing
@SLOW
@pytest.mark.parametrize("objective", ["dpo", "simpo"])
@pytest.mark.parametrize("sample", PREFERENCES)
@pytest.mark.parametrize("name", TWINS)
def test_every_sample_trains_every_twin(
    sample: str, name: str, objective: str, twin: Twins, steps: Steps, tmp_path: Path
) -> None:
    train(sample, name, objective, twin, steps, tmp_path)


@needs_sanitizing
@SLOW
@pytest.mark.parametrize("name", TWINS)
def test_answers_alone_train_every_twin(name: str, twin: Twins, steps: Steps, tmp_path: Path) -> None:
    fit("sft", SAMPLES / SFT_ONLY, twin(name), tmp_path)
    assert all(map(math.isfinite, steps.losses))
    assert steps.consist_of([row_of(record, [record["chosen"]]) for record in meanings(SFT_ONLY)])


def with_short_contexts(path: Path) -> dict[str, str]:
    """Write the sample of named columns with a short context in each record; gives the contexts by the question."""
    records = list(map(json.loads, (SAMPLES / "columns.jsonl").read_text().splitlines()))
    short = {record["ask"]: f"Ines says: {record['good']}." for record in records}
    path.write_text("".join(json.dumps({**record, "brief": short[record["ask"]]}) + "\n" for record in records))
    return short


@needs_sanitizing
@pytest.mark.parametrize("name", [name if name == "GptOss" else pytest.param(name, marks=SLOW) for name in TWINS])
def test_short_contexts_of_a_column_train_solopo(name: str, twin: Twins, steps: Steps, tmp_path: Path) -> None:
    short = with_short_contexts(tmp_path / "pairs.jsonl")
    mapping = ("--data.columns", json.dumps({**MAPPING, "short_context": "brief"}), "--data.extra_columns", "ignore")
    fit("solopo", tmp_path / "pairs.jsonl", twin(name), tmp_path, *mapping)
    assert all(map(math.isfinite, steps.losses))
    assert steps.consist_of(
        [
            row_of(r, [r["chosen"], *r["rejected"]], short[r["question"]]) + row_of(r, [r["chosen"]])
            for r in meanings("columns.jsonl")
        ]
    )


@SLOW
@pytest.mark.parametrize("sample", [*PREFERENCES, SFT_ONLY])
def test_without_short_contexts_it_is_said_how_to_build_them(
    sample: str, twin: Twins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = r"`short_context`.*python -m lit_longpo build --config configs/build"
    refused(sample, "solopo", message, twin, tmp_path, monkeypatch)


@pytest.mark.parametrize("objective", ["dpo", pytest.param("simpo", marks=SLOW)])
def test_without_a_rejected_answer_sft_is_named(
    objective: str, twin: Twins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(SFT_ONLY, objective, "expected 1 rejected answer in .*; .*SFT", twin, tmp_path, monkeypatch)


def refused(
    sample: str, objective: str, message: str, twin: Twins, where: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, before a model is loaded."""

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", load)
    with pytest.raises(SystemExit, match=f"^error: .*{message}") as stopped:
        fit(objective, SAMPLES / sample, twin("Llama"), where, *PREFERENCES.get(sample, ()))
    assert "\n" not in str(stopped.value)
