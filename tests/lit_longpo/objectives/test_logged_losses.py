"""The loss that a run logs for a file of weighted pairs, against its equation in plain torch and transformers."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.chat_formats import chat_bpe_tokenizer
from support.command_line import CONFIGS
from support.tiny_models import tiny_config
from torch import Tensor
from torch.nn.functional import softplus

from lit_longpo import __main__ as command

PAIRS: list[dict[str, Any]] = [
    {"weight": 2.5, "margin": 0.75, "rejected": "two boats"},
    {"weight": 0.25, "margin": -1.5, "rejected": "a mill, and nothing else"},
    {"rejected": "no"},
]
for _number, _pair in enumerate(PAIRS):
    _short = f"The quay of {_number} holds nine crates."
    _pair |= {"question": "What is there?", "short_context": _short, "chosen": f"nine crates ({_number})"}
    _pair |= {"long_context": f"Rain fell. {_short} " + "The tide was late. " * (3 + _number)}
SMALL = (
    *("--policy.template.chat", "null", "--policy.template.user", "{context}\n\n{question}"),
    *("--data.val_fraction", "0", "--data.max_examples", "3", "--trainer.max_steps", "1", "--trainer.max_epochs", "-1"),
    *("--trainer.callbacks", "[]", "--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", "1"),
    *("--trainer.enable_model_summary", "false", "--trainer.enable_checkpointing", "false"),
    *("--trainer.val_check_interval", "null", "--trainer.limit_val_batches", "0"),
)
# By context, role and model: sums of log-probabilities of the pairs' answers. Shape: (pairs,). By role: their tokens.
Sums = dict[tuple[str, str, str], Tensor]
Tokens = dict[str, Tensor]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of two tiny models whose answers differ a lot in likelihood."""
    root, chat = tmp_path_factory.mktemp("models"), chat_bpe_tokenizer("llama3")
    for seed, name in enumerate(("policy", "reference")):
        torch.manual_seed(seed)
        config = tiny_config("Llama", vocab_size=len(chat), initializer_range=0.2, eos_token_id=chat.eos_token_id)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(root / name)
        chat.save_pretrained(root / name)
    return {name: root / name for name in ("policy", "reference")}


@pytest.fixture(scope="module")
def scored(models: dict[str, Path]) -> tuple[Sums, Tokens]:
    """Every answer of every pair behind its own prompt, by transformers alone."""
    chat, sums, tokens = chat_bpe_tokenizer("llama3"), Sums(), Tokens()
    for name, folder in models.items():
        model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        for context in ("short", "long"):
            for role in ("chosen", "rejected"):
                rows = [_log_probs(model, chat, pair, context, role) for pair in PAIRS]
                sums[context, role, name] = torch.stack([row.sum() for row in rows])
                tokens[role] = torch.tensor([float(len(row)) for row in rows])
    return sums, tokens


@torch.no_grad()
def _log_probs(model: Any, chat: Any, pair: dict[str, Any], context: str, role: str) -> Tensor:
    said = [{"role": "user", "content": f"{pair[f'{context}_context']}\n\n{pair['question']}"}]
    prompt = chat.apply_chat_template(said, add_generation_prompt=True)["input_ids"]
    answer = chat.encode(f"{pair[role]}<|eot_id|>", add_special_tokens=False)
    logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].double()
    return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]


def margins() -> Tensor:
    return torch.tensor([pair.get("margin", 0.0) for pair in PAIRS]).double()


def log_ratios(sums: Sums, context: str) -> tuple[Tensor, Tensor]:
    return tuple(  # type: ignore[return-value]
        sums[context, role, "policy"] - sums[context, role, "reference"] for role in ("chosen", "rejected")
    )


def log_odds(sums: Tensor, tokens: Tensor) -> Tensor:
    mean = sums / tokens
    return mean - torch.log(1 - mean.exp())


def dpo(sums: Sums, tokens: Tokens, context: str = "long") -> Tensor:
    chosen, rejected = log_ratios(sums, context)
    return softplus(-(0.3 * (chosen - rejected) - margins()))


def ipo(sums: Sums, tokens: Tokens) -> Tensor:
    chosen, rejected = log_ratios(sums, "long")
    return (chosen - rejected - 1 / (2 * 0.3)) ** 2


def simpo(sums: Sums, tokens: Tokens, context: str = "long") -> Tensor:
    chosen, rejected = (sums[context, role, "policy"] / tokens[role] for role in ("chosen", "rejected"))
    return softplus(-(2.0 * (chosen - rejected) - 0.5 - margins()))


def orpo(sums: Sums, tokens: Tokens, context: str = "long") -> Tensor:
    chosen, rejected = (log_odds(sums[context, role, "policy"], tokens[role]) for role in ("chosen", "rejected"))
    return -sums[context, "chosen", "policy"] / tokens["chosen"] + 0.3 * softplus(-(chosen - rejected - margins()))


def solopo_dpo(sums: Sums, tokens: Tokens) -> Tensor:
    short, long = (0.3 * log_ratios(sums, context)[0] for context in ("short", "long"))
    return dpo(sums, tokens, "short") + 1.5 * (short - long).abs()


def solopo_simpo(sums: Sums, tokens: Tokens) -> Tensor:
    short, long = (2.0 * sums[context, "chosen", "policy"] / tokens["chosen"] for context in ("short", "long"))
    return simpo(sums, tokens, "short") + 1.5 * (short - long).abs()


def solopo_orpo(sums: Sums, tokens: Tokens) -> Tensor:
    short, long = (log_odds(sums[context, "chosen", "policy"], tokens["chosen"]) for context in ("short", "long"))
    return orpo(sums, tokens, "short") + 1.5 * (short - long).abs()


def solopo(base: str, **settings: float) -> tuple[str, ...]:
    return "--model.alpha", "1.5", "--model.base", json.dumps({"class_path": base, "init_args": settings})


LOSSES: dict[str, tuple[Callable[[Sums, Tokens], Tensor], tuple[str, ...]]] = {
    "dpo": (dpo, ("--model.beta", "0.3")),
    "ipo": (ipo, ("--model.beta", "0.3")),
    "simpo": (simpo, ("--model.beta", "2.0", "--model.gamma", "0.5")),
    "orpo": (orpo, ("--model.beta", "0.3")),
    "solopo dpo": (solopo_dpo, solopo("DPO", beta=0.3)),
    "solopo simpo": (solopo_simpo, solopo("SimPO", beta=2.0, gamma=0.5)),
    "solopo orpo": (solopo_orpo, solopo("ORPO", beta=0.3)),
}


SLOW = pytest.mark.slow
FIRST = ("dpo", "simpo", "solopo orpo")  # each base once, one from a table of texts


def written(path: Path, pairs: list[dict[str, Any]]) -> Path:
    """A file of pairs: JSON lines, or a table of texts."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            table = csv.DictWriter(file, list(pairs[0]))
            table.writeheader()
            table.writerows(pairs)
        else:
            file.writelines(json.dumps(pair | {"rejected": [pair["rejected"]]}) + "\n" for pair in pairs)
    return path


@pytest.mark.parametrize(
    "name", [name if name in FIRST else pytest.param(name, marks=pytest.mark.slow) for name in LOSSES]
)
def test_the_logged_loss_is_the_equation_of_the_file(
    name: str, models: dict[str, Path], scored: tuple[Sums, Tokens], tmp_path: Path
) -> None:
    """Weights multiply a pair's whole loss, a step's is the mean over its pairs; IPO takes no margins."""
    equation, settings = LOSSES[name]
    pairs = [{k: v for k, v in pair.items() if k != "margin"} for pair in PAIRS] if name == "ipo" else PAIRS
    path = written(tmp_path / ("pairs.csv" if name == "simpo" else "pairs.jsonl"), pairs)
    logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(tmp_path / "log")}}
    other = ("--reference.policy.source", models["reference"])
    words = (
        *("fit", "--config", CONFIGS / f"{name.partition(' ')[0]}.yaml", "--policy.source", models["policy"]),
        *("--data", CONFIGS / "data/pairs.yaml", "--data.path", path, *SMALL, "--trainer.logger", json.dumps(logger)),
        *(*settings, *(other if name in ("dpo", "ipo", "solopo dpo") else ())),
    )
    command.main([*map(str, words), "--trainer.default_root_dir", str(tmp_path)])
    (metrics,) = (tmp_path / "log").rglob("metrics.csv")
    with open(metrics, newline="") as file:
        (logged,) = [row["train/loss"] for row in csv.DictReader(file) if row.get("train/loss")]
    weights = torch.tensor([pair.get("weight", 1.0) for pair in PAIRS])
    assert float(logged) == pytest.approx(float((weights * equation(*scored)).mean()), rel=1e-5, abs=1e-5)
