"""The embedded model: every objective at equal steps and at equal FLOPs, and ablations that no paper has.

600 steps of 8 pairs, short contexts of 64 words, long ones of 128 to 512; the model was trained on at most 64. LOGO
reads 64 words at positions up to 512.
"""

from collections.abc import Iterator

from results.cells import Cell, Settings, Suite

Words = tuple[str, ...]

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
_DEAREST = "orpo-long"  # whose FLOPs the others get


def cells(settings: Settings) -> Iterator[Cell]:
    """The base, then seed 1 of everything, then the other seeds."""
    yield _base(settings)
    for seed in settings.seeds:
        for name, words in CORE.items():
            yield _training(settings, name, words, seed)
        for name, words in CORE.items():
            if name != _DEAREST:
                yield _equal_flops(settings, name, words, seed)
        for name, words in ABLATIONS.items():
            yield _training(settings, name, words, seed)


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


def _base(settings: Settings) -> Cell:
    grid = {
        "haystack": "data_modules.WorldHaystack",
        "lengths": list(_LENGTHS),
        "depths": [0.0, 0.25, 0.5, 0.75, 1.0],
        "num_examples": 1 if settings.toy else 40,
        "max_new_tokens": 4,
        "tasks": "[needle]",
    }
    words = (f"--benchmark.{name}={value}" for name, value in grid.items())
    policy = ("--policy", "configs/model/tiny.yaml", "--accelerator", "cpu")
    return Cell(
        "base", ("evaluate", "--config", "configs/eval/needle.yaml", *policy, "--output", "{run}", *words), device="cpu"
    )


SUITE = Suite("embedded", cells)
