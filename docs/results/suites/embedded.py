"""The embedded model: every objective at equal steps and at equal FLOPs, and ablations that no paper has.

600 steps of 8 pairs, short contexts of 64 words, long ones of 128 to 512; the model was trained on at most 64. LOGO
reads 64 words at positions up to 512. The quality of pairs is changed on purpose by `results.pair_quality`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from results.cells import Cell, Settings, Suite

Words = tuple[str, ...]

_NAME = "embedded"
_FILE = "docs/results/suites/embedded.yaml"
_LENGTHS = (64, 128, 256, 384, 512)


def _objective(name: str, **arguments: object) -> Words:
    return (f"--model={name}", *(f"--model.{key}={value}" for key, value in arguments.items()))


def _solopo(base: str = "ORPO", **arguments: object) -> Words:
    return _objective("SoLoPO", base=base, **arguments)


def _logo(scheme: str, rejected: int = 1) -> Words:
    data = {"max_examples": 8, "num_rejected": rejected, "num_train": 4800, "positions.scheme": scheme}
    words = (f"--data.init_args.{name}={value}" for name, value in data.items())
    return (*_objective("LOGO", num_rejected=rejected), "--data=configs/data/synthetic_positions.yaml", *words)


_BASES = ("ORPO", "SimPO", "DPO", "IPO")
_LONGPO = _objective("LongPO", nll="answer", pref_weight=0.1)
CORE = {
    "sft-short": _objective("SFT", context="short"),
    "sft-long": _objective("SFT", context="long"),
    "solopo-orpo": _solopo(),
    "orpo-long": _objective("ORPO", context="long"),
    "longpo": _LONGPO,
    "logo-mixed": _logo("mixed"),
    "logo-none": _logo("none"),
    "dpo-long": _objective("DPO", context="long"),
    "simpo-long": _objective("SimPO", context="long"),
    "ipo-long": _objective("IPO", context="long"),
    "solopo-simpo": _solopo("SimPO"),
    "solopo-dpo": _solopo("DPO"),
    "solopo-ipo": _solopo("IPO"),
    "logo-continuous": _logo("continuous"),
    "logo-sparse": _logo("sparse"),
    "orpo-short": _objective("ORPO", context="short"),
    "dpo-short": _objective("DPO", context="short"),
    "simpo-short": _objective("SimPO", context="short"),
    "ipo-short": _objective("IPO", context="short"),
}
ABLATIONS = {
    "solopo-orpo-short-moves": _solopo(detach_short="false"),
    "solopo-orpo-both": _solopo(align="both"),
    "solopo-orpo-alpha-0.3": _solopo(alpha=0.3),
    "solopo-orpo-alpha-3": _solopo(alpha=3.0),
    "solopo-orpo-softplus": _solopo(penalty="softplus"),
    "solopo-orpo-squared": _solopo(penalty="squared"),
    "longpo-paper": _objective("LongPO", nll="sequence", pref_weight=0.01),
    "longpo-answer-0.01": _objective("LongPO", nll="answer", pref_weight=0.01),
    "longpo-answer-1": _objective("LongPO", nll="answer", pref_weight=1.0),
    "longpo-no-nll": _objective("LongPO", nll="none", pref_weight=1.0),
    "longpo-long-reference": _objective("LongPO", nll="answer", pref_weight=0.1, reference_context="long"),
    "longpo-long-reference-no-nll": _objective("LongPO", nll="none", pref_weight=1.0, reference_context="long"),
    "logo-mixed-2-rejected": _logo("mixed", 2),
    "logo-mixed-3-rejected": _logo("mixed", 3),
}
# What becomes of the same pairs, and which of them are trained on.
QUALITIES = {
    "flips-30": ("flips-30", "all"),
    "flips-30-filtered": ("flips-30", "not_worse"),
    "easy": ("easy", "all"),
    "mistakes": ("mistakes", "all"),
    "flips-30-filtered-long": ("flips-30-read-long", "not_worse"),
    "flips-10": ("flips-10", "all"),
}
_OF_PAIRS = ("orpo-long", "dpo-long", "sft-long")
_DEAREST = "orpo-long"  # whose FLOPs the others get
_BEST = "solopo-orpo-squared"  # of the variants, at equal steps


def cells(settings: Settings) -> Iterator[Cell]:
    """The base, then seed 1 of everything, then the other seeds."""
    yield asking("base", _LENGTHS, (0.0, 0.25, 0.5, 0.75, 1.0), toy=settings.toy)
    for seed in settings.seeds:
        for name, words in CORE.items():
            yield _training(settings, name, words, seed)
        for name, words in CORE.items():
            if name != _DEAREST:
                yield _equal_flops(settings, name, words, seed)
        for name, words in ABLATIONS.items():
            yield _training(settings, name, words, seed)
        yield _equal_flops(settings, _BEST, ABLATIONS[_BEST], seed)
        yield from _pair_quality(settings, seed)


def _pair_quality(settings: Settings, seed: int) -> Iterator[Cell]:
    """Pairs that are worse, easier or harder than those of the other rows, and what is learnt from them."""
    key, few = f"pairs-seed{seed}", ("--count", "16") if settings.toy else ()
    made = tuple(f"{file}.jsonl" for file in ("shipped", *dict.fromkeys(file for file, _ in QUALITIES.values())))
    words = ("make", "--seed", str(seed), "--output", "{run}", *few)
    yield Cell("pairs", words, seed=seed, program="results.pair_quality", device="cpu", made=made)
    folder = f"{settings.work / _NAME}/{key}"
    if seed == settings.seeds[0]:
        yield from _difficulty(settings, seed, folder)
    for quality, (file, keep) in QUALITIES.items():
        for name in _OF_PAIRS:
            if name == "sft-long" and not quality[-1].isdigit():
                continue  # reads no rejected answer, and trains on fewer of the same pairs where others are left out
            words = (*CORE[name], *_pairs(f"{folder}/{file}.jsonl"), f"--data.init_args.keep={keep}")
            yield replace(_training(settings, f"{name}-{quality}", words, seed), after=(key,))


def _difficulty(settings: Settings, seed: int, folder: str) -> Iterator[Cell]:
    """What the filter does, and what the untrained model makes of the pairs after the long context."""
    after, words = (f"pairs-seed{seed}",), ("count", "--pairs", folder, "--output", "{run}")
    yield Cell("filter", words, seed, "results.pair_quality", after, "cpu", counts="counts.json")
    for file in ("shipped", "easy", "mistakes"):
        path = f"{folder}/{file}.jsonl"
        data = (*_pairs(path), f"--data.init_args.val_path={path}", "--trainer.limit_val_batches=1.0")
        words = ("validate", *_fit(settings, seed)[1:], *CORE["orpo-long"], *data)
        yield Cell(f"base-on-{file}", words, seed, after=after, device="cpu")


def _pairs(path: str) -> Words:
    data = {"path": path, "val_fraction": 0, "max_examples": 8}
    return ("--data=configs/data/pairs.yaml", *(f"--data.init_args.{name}={value}" for name, value in data.items()))


def _training(settings: Settings, name: str, words: Words, seed: int) -> Cell:
    return Cell(name, (*_fit(settings, seed), *words), seed=seed, device="cpu")


def _equal_flops(settings: Settings, name: str, words: Words, seed: int) -> Cell:
    of, own = f"{_DEAREST}-seed{seed}", f"{name}-seed{seed}"
    steps = f"--trainer.max_steps={{steps {of} {own}}}"
    row = f"{name}-equal-flops"
    return Cell(row, (*_fit(settings, seed), *words, steps), seed=seed, after=(of, own), device="cpu")


def _fit(settings: Settings, seed: int) -> Words:
    toy = ("--trainer.max_steps=2", "--trainer.callbacks.num_examples=1") if settings.toy else ()
    return (
        *("fit", "--config", _FILE, f"--seed_everything={seed}", f"--data.init_args.seed={seed}"),
        *("--trainer.logger.init_args.save_dir={run}", "--trainer.default_root_dir={run}"),
        *toy,
    )


def asking(name: str, lengths: Sequence[int], depths: Sequence[float], *, toy: bool) -> Cell:
    """A cell that asks the model, as it is shipped, 40 needles at each length and depth.

    Args:
        name: of the cell.
        lengths: in tokens.
        depths: 0 to 1.
        toy: one needle in place of 40.
    """
    grid = {
        "haystack": "data_modules.WorldHaystack",
        "lengths": list(lengths),
        "depths": list(depths),
        "num_examples": 1 if toy else 40,
        "max_new_tokens": 4,
        "tasks": "[needle]",
    }
    words = (f"--benchmark.{name}={value}" for name, value in grid.items())
    policy = ("--policy", "configs/model/tiny.yaml", "--accelerator", "cpu")
    return Cell(
        name, ("evaluate", "--config", "configs/eval/needle.yaml", *policy, "--output", "{run}", *words), device="cpu"
    )


SUITE = Suite(_NAME, cells)
