"""Pairs of the embedded suite whose quality is changed on purpose: labels flipped, rejected answers easier or harder.

    python -m results.pair_quality make --seed 1 --output FOLDER
    python -m results.pair_quality count --pairs FOLDER --output FOLDER

`make` writes the pairs of configs/data/synthetic.yaml once as they are and once for each change, in the same order:

- `easy`: the rejected answer is a value of another attribute, one that the context does not state if there is any
- `mistakes`: it is the wrong value of the asked attribute that the untrained model finds likeliest after the long one
- `flips-10`, `flips-30`: chosen and rejected are swapped in so many percent of the pairs; in the latter every pair has
  the label of `build`'s own verifier, `LogProbGap` of the untrained model, by which `keep: not_worse` filters
- `flips-30-read-long`: the same flips, judged after the long context, as if there were no short one

`count` says what that filter lets through and what it leaves out wrongly.
"""

import argparse
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from data_modules import SyntheticDataModule
from data_modules.builders.checks.verifiers import LogProbGap, Verdict
from data_modules.builders.recipes.base import Workbench
from data_modules.builders.sources.tokens import TextTokens
from data_modules.records import PreferencePair, read_pairs, write_pairs
from data_modules.worlds.world import VALUES
from lit_longpo.engine import generation_mode
from lit_longpo.policy import PolicyConfig, PromptTemplate

_CONFIGS = Path(__file__).resolve().parents[2] / "configs"
_FLIPPED = "-flipped"


def untrained() -> PolicyConfig:
    """The embedded model, as configs/model/tiny.yaml has it."""
    settings = yaml.safe_load((_CONFIGS / "model/tiny.yaml").read_text())
    return PolicyConfig(source=settings["source"], template=PromptTemplate(**settings["template"]))


def shipped(seed: int, count: int | None = None) -> list[PreferencePair]:
    """Training pairs of the suite's other rows."""
    settings = yaml.safe_load((_CONFIGS / "data/synthetic.yaml").read_text())["init_args"]
    settings |= {"seed": seed} if count is None else {"seed": seed, "num_train": count}
    return SyntheticDataModule(**settings).pairs("train")


def flipped(pairs: Sequence[PreferencePair], share: float, seed: int) -> list[PreferencePair]:
    """The pairs, with chosen and rejected swapped in a share of them, which are drawn; their ids say so.

    Args:
        pairs: of one rejected answer each.
        share: exact, but for rounding.
        seed: of the draw.
    """
    drawn = set(random.Random(f"flips-{seed}").sample(range(len(pairs)), round(share * len(pairs))))
    return [_swapped(pair) if number in drawn else pair for number, pair in enumerate(pairs)]


def _swapped(pair: PreferencePair) -> PreferencePair:
    [rejected] = pair.rejected
    return replace(pair, id=pair.id + _FLIPPED, chosen=rejected, rejected=(pair.chosen,))


def easy(pair: PreferencePair, seed: int) -> PreferencePair:
    """With a rejected answer of another kind: nobody who has read verb and question would give it."""
    rng, stated = random.Random(f"easy-{seed}-{pair.id}"), set(pair.long_context.split())
    others = [value for values in VALUES.values() if pair.chosen not in values for value in values]
    rng.shuffle(others)
    return replace(pair, rejected=(min(others, key=lambda value: value in stated),))


@dataclass
class Mistakes:
    """Rejected answers that a model would give itself.

    Args:
        policy: whose mistakes.
    """

    policy: PolicyConfig

    def __post_init__(self) -> None:
        self._model: Any = self.policy.load_base()
        self._format = self.policy.prompt_format()

    def of(self, pair: PreferencePair) -> PreferencePair:
        """With the wrong value of the asked attribute that is likeliest after the long context."""
        values = next(values for values in VALUES.values() if pair.chosen in values)
        wrong = [value for value in values if value != pair.chosen]
        ids = [self._format.encode_response(value)[0] for value in wrong]  # a token each
        scores = self._next_token(pair)[ids]
        return replace(pair, rejected=(wrong[int(scores.argmax())],))

    @torch.no_grad()
    def _next_token(self, pair: PreferencePair) -> torch.Tensor:
        """Scores of the first token of an answer. Shape [vocabulary]."""
        prompt = self._format.encode_prompt(pair.long_context, pair.question).ids
        with generation_mode(self._model):
            logits: torch.Tensor = self._model(input_ids=torch.tensor([prompt]), logits_to_keep=1).logits[0, -1]
        return logits


def labelled(
    pairs: Sequence[PreferencePair], policy: PolicyConfig, *, reads_long: bool = False
) -> list[PreferencePair]:
    """With the label that `build` would give them, by a model's own preference.

    Args:
        pairs: to be judged.
        policy: the model that judges.
        reads_long: after the long context, in place of the short one.
    """
    judge = LogProbGap(policy)
    bench = Workbench("", TextTokens(policy.prompt_format()), policy.template)
    read = (replace(pair, short_context=pair.long_context) if reads_long else pair for pair in pairs)
    return [replace(pair, verified=_verdict(judge, seen, bench)) for pair, seen in zip(pairs, read, strict=True)]


def _verdict(judge: LogProbGap, pair: PreferencePair, bench: Workbench) -> Verdict:
    try:
        next(judge.steps(pair, bench))
    except StopIteration as end:
        verdict: Verdict = end.value
        return verdict
    raise ValueError("expected a verifier that asks nobody, got a request")


def counts(pairs: Iterable[PreferencePair]) -> dict[str, int]:
    """What `keep: not_worse` makes of labelled pairs, of which some are flipped."""
    found = {"flipped": 0, "flipped, kept": 0, "right": 0, "right, left out": 0}
    for pair in pairs:
        kept = pair.verified is not False
        wrong = pair.id.endswith(_FLIPPED)
        found["flipped" if wrong else "right"] += 1
        found["flipped, kept"] += wrong and kept
        found["right, left out"] += not wrong and not kept
    return found


def make(options: argparse.Namespace) -> None:
    """Every file of a seed."""
    pairs, policy, seed = shipped(options.seed, options.count), untrained(), options.seed
    mistakes = Mistakes(policy)
    flips = flipped(pairs, 0.3, seed)
    changes: dict[str, Callable[[], Sequence[PreferencePair]]] = {
        "flips-30": lambda: labelled(flips, policy),
        "flips-30-read-long": lambda: labelled(flips, policy, reads_long=True),
        "flips-10": lambda: flipped(pairs, 0.1, seed),
        "shipped": lambda: pairs,
        "easy": lambda: [easy(pair, seed) for pair in pairs],
        "mistakes": lambda: [mistakes.of(pair) for pair in pairs],
    }
    options.output.mkdir(parents=True, exist_ok=True)
    for name, changed in changes.items():
        write_pairs(options.output / f"{name}.jsonl", changed())
        print(f"written: {name}.jsonl", flush=True)


def count(options: argparse.Namespace) -> None:
    """The filter's counts, by the context that its model has read."""
    files = {"short context": "flips-30.jsonl", "long context": "flips-30-read-long.jsonl"}
    found = {context: counts(read_pairs(options.pairs / name)) for context, name in files.items()}
    (options.output / "counts.json").write_text(json.dumps({"filter": found}) + "\n")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for command in (make, count):
        part = commands.add_parser(command.__name__)
        part.set_defaults(command=command)
        part.add_argument("--output", type=Path, required=True)
        if command is make:
            part.add_argument("--seed", type=int, default=1)
            part.add_argument("--count", type=int, default=None, help="so many pairs; all of the data's otherwise")
        else:
            part.add_argument("--pairs", type=Path, required=True)
    options = parser.parse_args(words)
    options.command(options)


if __name__ == "__main__":
    main()
