"""SmolLM2-135M on questions: does a long method beat SFT on short contexts, at equal pairs and at equal FLOPs?

On XQuAD, whose answers lie in one paragraph, and on 2WikiMultihopQA, whose answers take two to four.

Two stages. SFT on half of the training articles, paragraphs alone, gives the first model. It answers the other half's
questions about paragraphs alone, sampled; its own wrong answers are the rejected ones, the gold answers the chosen.
From the first model every objective then trains on the same pairs for the same number of steps and leaves its
adapters; asking them is a cell of its own, on this machine or another one.

`smollm2-shared` costs a quarter: three questions about a paragraph share its long context and make a step. There every
seed has a first stage and pairs of its own.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from results.cells import Cell, Settings, Suite
from results.outcomes import FINGERPRINT
from results.packing import ADAPTERS

_LENGTHS = (1024, 2048)
_ASKED = (512, 1024, 2048, 4096)
_FILE = "docs/results/suites/smollm2.yaml"
# Rates of losses that hold a likelihood, and of those that only compare; chosen before the runs, not tuned.
_LIKELIHOOD, _COMPARISON = "2.0e-4", "5.0e-5"

Words = tuple[str, ...]
_TEMPLATE = "{context}\n\nAnswer with a few words only. Question: {question}"
_POSITIONS = {"target_length": 4096, "chunk_tokens": 128, "scheme": "mixed", "seed": 0}


def _objective(name: str, rate: str = _LIKELIHOOD, **arguments: object) -> Words:
    words = [f"--model.{key}={value}" for key, value in arguments.items()]
    return (f"--model={name}", *words, f"--optimization.optimizer.init_args.lr={rate}")


def _solopo(base: str, rate: str) -> Words:
    return (*_objective("SoLoPO", rate, base=base), "--model.detach_short=true")


def _positions(scheme: str) -> Words:
    return (f"--data.init_args.positions={json.dumps({**_POSITIONS, 'scheme': scheme})}",)


SHORT = {"sft-short": _objective("SFT", context="short")}
LONG = {
    "sft-long": _objective("SFT", context="long"),
    "solopo-orpo": _solopo("ORPO", _LIKELIHOOD),
    "orpo-long": _objective("ORPO", context="long"),
    "longpo": _objective("LongPO"),
    "logo": (*_objective("LOGO", _COMPARISON, num_rejected=1), *_positions("mixed")),
    "dpo-long": _objective("DPO", _COMPARISON, context="long"),
}
_ANSWERS_NLL = ("longpo-answer", _objective("LongPO", nll="answer", pref_weight=0.1))
MORE = {
    "logo-none": (*_objective("LOGO", _COMPARISON, num_rejected=1), *_positions("none")),
    "solopo-dpo": _solopo("DPO", _COMPARISON),
    "dpo-long-faster": _objective("DPO", _LIKELIHOOD, context="long"),
    "dpo-short-faster": _objective("DPO", _LIKELIHOOD, context="short"),
    "logo-faster": (*_objective("LOGO", _LIKELIHOOD, num_rejected=1), *_positions("mixed")),
    # As the other losses that hold a likelihood: their rate and its whole weight, beside the paper's mildest beta.
    "logo-likelihood": (
        *_objective("LOGO", _LIKELIHOOD, num_rejected=1, beta=2.5, gamma=0.25, nll_weight=1.0),
        *_positions("mixed"),
    ),
    "simpo-long": _objective("SimPO", _COMPARISON, context="long"),
    "solopo-simpo": _solopo("SimPO", _COMPARISON),
}
_SAVED = ("--trainer.callbacks+=SavePretrained", "--trainer.callbacks.directory={run}/model")
_ADAPTERS = ("model/adapter_config.json", ADAPTERS)
ONE_STAGE = ("sft-short", "solopo-orpo", "orpo-long")


@dataclass(frozen=True)
class _OnQuestions:
    """All cells about one set of questions.

    Args:
        name: of the suite.
        pairs_file: the questions that become pairs, in their own format.
        source: what `build` has to be told of it.
        asked: lengths of what is asked, beside the paragraph alone.
        together: pairs that share their long context and make a step; with 1 each has a context of its own.
        chains: whether every seed has a first stage and pairs of its own, not only its own order of them.
    """

    name: str
    pairs_file: str = "pairs.squad.json"
    source: Words = ()
    asked: tuple[int, ...] = _ASKED
    together: int = 1
    chains: bool = False

    def cells(self, settings: Settings) -> Iterator[Cell]:
        """Preparation, the two models that are compared with, then trainings, the most telling first."""
        yield from self._files(settings)
        chains = settings.seeds if self.chains else (1,)
        for seed in chains:
            yield from self._chain(settings, seed)
        yield self._evaluation(settings, "base", "convert")
        for seed in chains:
            yield from (self._difficulty(settings, context, seed) for context in ("short", "long"))
        trainings = dict[str, Cell]()
        for cell in self._trainings(settings):
            trainings.setdefault(cell.key, cell)
        yield from trainings.values()

    def _key(self, name: str, seed: int) -> str:
        """Of a preparation that a seed's trainings start from."""
        return f"{name}-seed{seed}" if self.chains else name

    def _trainings(self, settings: Settings) -> Iterator[Cell]:
        first = _LENGTHS[0]
        for length in _LENGTHS[:1] if settings.toy else _LENGTHS:
            for seed in settings.seeds:
                for name, words in {**SHORT, **LONG}.items():
                    yield from self._training(settings, name, words, length, seed)
            for seed in settings.seeds:
                yield from self._training(settings, *_ANSWERS_NLL, length, seed)
        for seed in settings.seeds:
            yield from self._equal_flops(settings, seed)
            for name, words in MORE.items():
                yield from self._training(settings, name, words, first, seed)
            for name in ONE_STAGE:
                words = {**SHORT, **LONG}[name]
                yield from self._training(settings, name, words, first, seed, one_stage=True)

    def _files(self, settings: Settings) -> Iterator[Cell]:
        here, toy = settings.work / self.name, settings.toy
        source = ("--source", settings.model, *(("--gguf-file", settings.gguf_file) if settings.gguf_file else ()))
        yield _converted("convert", source, settings)
        sizes = ("--paragraphs", "2", "--questions", "1", "--articles", "3") if toy else ()
        files = ("--train", settings.train, "--test", settings.test, "--tokenizer", f"{here}/convert/model")
        asked = ("--output", "{run}", "--lengths", *map(str, self.asked[:1] if toy else self.asked))
        yield Cell(
            "questions",
            ("questions", *files, *asked, *sizes),
            program="results.passages",
            after=("convert",),
            made=("questions.jsonl", "sft.jsonl", self.pairs_file),
        )

    def _chain(self, settings: Settings, seed: int) -> Iterator[Cell]:
        """The first model, its pairs and its scores."""
        here, own = settings.work / self.name, seed if self.chains else 0
        first, build = self._key("first", seed), self._key("build", seed)
        words = (*self._fit(settings, "convert", seed), *self._first_stage(settings))
        stage = Cell("first-stage", words, seed=seed, after=("convert", "questions"), made=_ADAPTERS, scored=False)
        yield stage
        adapters = ("--source", f"{here}/{stage.key}/model")
        yield _converted("first", adapters, settings, seed=own, after=("convert", stage.key))
        words = (*self._build(settings, first), *(("--seed", str(seed)) if own else ()))
        yield Cell("build", words, seed=own, after=(first, "questions"), made=("built/pairs.jsonl",))
        yield Cell(
            "pairs",
            (
                *("pairs", "--built", f"{here}/{build}/built", "--train", f"{here}/questions/{self.pairs_file}"),
                *("--tokenizer", f"{here}/convert/model", "--output", "{run}", "--lengths", *map(str, _LENGTHS)),
                *(("--batch", "1", "--max-f1", "1") if settings.toy else ("--batch", "4")),
                *(("--together", "1" if settings.toy else str(self.together)) if self.together > 1 else ()),
            ),
            seed=own,
            program="results.passages",
            after=(build,),
            made=(FINGERPRINT, *(f"pairs-{length}.jsonl" for length in _LENGTHS)),
        )
        yield replace(self._evaluation(settings, "first-stage-scores", first), seed=own)

    def _first_stage(self, settings: Settings) -> Words:
        data = settings.work / self.name / "questions/sft.jsonl"
        objective = _objective("SFT", "5.0e-4", context="short")
        return (*objective, f"--data.init_args.path={data}", "--data.init_args.max_examples=8", *_SAVED)

    def _build(self, settings: Settings, first: str) -> Words:
        here, toy = settings.work / self.name, settings.toy
        return (
            *("build", "--config", "docs/results/suites/smollm2_build.yaml", "--output", "{run}/built"),
            *("--policy.source", f"{here}/{first}/model", "--policy.dtype", dtype_of(settings)),
            *("--policy.template.user", _TEMPLATE),
            *("--source.paths", json.dumps([f"{here}/questions/{self.pairs_file}"])),
            *self.source,
            *("--generator.device", "cuda" if settings.accelerator == "gpu" else "cpu"),
            *(("--recipe.samples", "4", "--recipe.decoding.temperature", "1.5") if toy else ()),
        )

    def _training(
        self, settings: Settings, name: str, words: Words, length: int, seed: int, *, one_stage: bool = False
    ) -> Iterator[Cell]:
        """Cells on short contexts alone see the same pairs whatever the length, and exist once."""
        row = name if "--model.context=short" in words else f"{name}-{length}"
        model = "convert" if one_stage else self._key("first", seed)
        words = (*self._fit(settings, model, seed), *words, *self._pairs(settings, length, seed))
        if length > _LENGTHS[0] and self.together == 1:  # several cells share a card
            words = (*words, "--policy.gradient_checkpointing=true")
        row = f"{row}-one-stage" if one_stage else row
        return self._trained_and_asked(settings, row, words, seed, (model, self._key("pairs", seed)))

    def _trained_and_asked(
        self, settings: Settings, row: str, words: Words, seed: int, after: tuple[str, ...]
    ) -> Iterator[Cell]:
        """A training ends with its adapters, which are small; whatever ends the questions leaves them to be asked."""
        training = Cell(f"training-{row}", (*words, *_SAVED), seed=seed, after=after, made=_ADAPTERS, scored=False)
        yield training
        asked = self._evaluation(settings, row, training.key)
        yield replace(asked, seed=seed, trained=training.key, after=(after[0], *asked.after))

    def _difficulty(self, settings: Settings, context: str, seed: int) -> Cell:
        """How many of the pairs the first model ranks right before any training on them, and by what margin."""
        first, pairs = self._key("first", seed), self._key("pairs", seed)
        path = f"{settings.work / self.name}/{pairs}/pairs-{_LENGTHS[0]}.jsonl"
        _, *words = self._fit(settings, first, seed)
        data = (f"--data.init_args.path={path}", f"--data.init_args.val_path={path}", "--trainer.limit_val_batches=1.0")
        words = ("validate", *words, *_objective("ORPO", context=context), *data)
        return Cell(f"first-on-pairs-{context}", words, seed=seed if self.chains else 0, after=(first, pairs))

    def _equal_flops(self, settings: Settings, seed: int) -> Iterator[Cell]:
        """SFT on short contexts for as many FLOPs as ORPO on long ones."""
        short, long = f"sft-short-seed{seed}", f"orpo-long-{_LENGTHS[0]}-seed{seed}"
        first, pairs = self._key("first", seed), self._key("pairs", seed)
        steps = ("--trainer.max_epochs=-1", f"--trainer.max_steps={{steps {long} {short}}}")
        words = (*self._fit(settings, first, seed), *SHORT["sft-short"])
        words = (*words, *self._pairs(settings, _LENGTHS[0], seed), *steps)
        return self._trained_and_asked(settings, "sft-short-equal-flops", words, seed, (first, pairs, short, long))

    def _fit(self, settings: Settings, model: str, seed: int) -> Words:
        return (
            *("fit", "--config", _FILE, f"--seed_everything={seed}", f"--data.init_args.seed={seed}"),
            f"--policy.source={settings.work / self.name / model}/model",
            f"--policy.dtype={dtype_of(settings)}",
            f"--trainer.accelerator={settings.accelerator}",
            "--trainer.logger.init_args.save_dir={run}",
            "--trainer.default_root_dir={run}",
            *settings.more,
            *(("--trainer.limit_train_batches=2", "--trainer.max_epochs=1") if settings.toy else ()),
        )

    def _pairs(self, settings: Settings, length: int, seed: int) -> Words:
        path = f"{settings.work / self.name}/{self._key('pairs', seed)}/pairs-{length}.jsonl"
        together = ("--data.init_args.share_prompts=together", f"--data.init_args.max_examples={self.together}")
        return (f"--data.init_args.path={path}", *(together if self.together > 1 else ()))

    def _evaluation(self, settings: Settings, name: str, model: str) -> Cell:
        here = settings.work / self.name
        words = asking(settings, here / f"{model}/model", here / "questions/questions.jsonl")
        return Cell(name, words, after=(model, "questions"))


def asking(settings: Settings, model: Path, questions: Path) -> Words:
    """Words of an evaluation on questions."""
    return (
        *("evaluate", "--config", "configs/eval/qa.yaml", "--output", "{run}"),
        *("--accelerator", settings.accelerator),
        *("--policy.source", str(model), "--policy.dtype", dtype_of(settings)),
        *("--policy.template.user", _TEMPLATE, "--benchmark.score_by", "sub_em"),
        *("--benchmark.path", str(questions), "--benchmark.max_new_tokens", "24"),
        *batching(settings),
    )


def batching(settings: Settings) -> Words:
    """On a GPU wide batches, in which nothing is shared; on a CPU one context's questions after each other.

    A chunk is of every row of a batch: with 1,024, a forward reads a quarter of the tokens of the longest prompts.
    """
    gpu = {"max_batch_tokens": settings.batch_tokens, "prefill_chunk": 1024, "min_shared": 0}
    cpu = {"max_batch_tokens": 8192, "prefill_chunk": 2048, "min_shared": 128}
    chosen = gpu if settings.accelerator == "gpu" else cpu
    return tuple(word for key, value in chosen.items() for word in (f"--batching.{key}", str(value)))


def dtype_of(settings: Settings) -> str:
    """Of the model's weights."""
    return settings.dtype or ("bfloat16" if settings.accelerator == "gpu" else "float32")


def _converted(name: str, source: Words, settings: Settings, seed: int = 0, after: tuple[str, ...] = ()) -> Cell:
    words = (*source, "--output", "{run}/model", "--dtype", dtype_of(settings))
    made = ("model/model.safetensors",)
    return Cell(name, words, seed=seed, program="results.convert", after=after, made=made)


_FAMILY = (
    _OnQuestions("smollm2"),
    _OnQuestions("smollm2-twohop", "pairs.qa.jsonl", ("--source.format", "2wikimultihop"), asked=_LENGTHS),
    _OnQuestions("smollm2-shared", asked=_LENGTHS, together=3, chains=True),
)
SUITE, TWO_HOP, SHARED = (
    Suite(one.name, one.cells, questions_share_contexts=True, pairs_by_seed=one.chains) for one in _FAMILY
)
