"""Pairs built when `fit` needs them, by the code of `python -m lit_longpo build`."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from data_modules.builders.build import Build
from data_modules.builders.checks.decontamination import Decontamination
from data_modules.builders.checks.verifiers import LogProbGap, Verifier
from data_modules.builders.generators.base import TextGenerator
from data_modules.builders.generators.requests import digest
from data_modules.builders.generators.transformers import TransformersGenerator
from data_modules.builders.recipes.base import Recipe
from data_modules.builders.sources.base import Source
from data_modules.formats.loading import Keep, keep_verified
from data_modules.records import PreferencePair, read_pairs
from data_modules.rows.accounts import Selection
from lit_longpo.files.checksums import refuse_changed
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.fingerprint import files_fingerprint

log = logging.getLogger(__name__)


@dataclass
class OnTheFly:
    """How a data module builds its pairs. Built once; later runs with the same settings and files read them.

    Args:
        recipe: SoLoPORecipe, LongPORecipe or LOGORecipe with its settings.
        generator: who answers; `None` is `TransformersGenerator`, the policy itself.
        policy: the model that answers and whose tokenizer measures; state it as in the `policy` section.
        verifiers: label every pair.
        decontamination: evaluation files that no pair may overlap with.
        keep: pairs to train on by their label: "all", "not_worse" (without those found worse) or "verified".
        cache: folder of the builds, each in a folder named by its content.
        seed: of everything drawn.
        window: records under way at a time.
    """

    recipe: Recipe
    generator: TextGenerator | None = None
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    verifiers: list[Verifier] = field(default_factory=list)
    decontamination: Decontamination | None = None
    keep: Keep = "all"
    cache: str = "runs/built"
    seed: int = 0
    window: int = 16

    def prepare(self, source: Source) -> None:
        """Build if that was not done before; call it on one process only. Of several runs one builds, others wait."""
        build = self._build(source)
        with _alone(build.output):
            if build.finished and (name := build.damaged):
                log.warning("%s in %s is damaged, the pairs are made again from the answers", name, build.output)
                build.run()
            elif not build.finished or build.num_failed:
                build.run()

    def pairs(self, source: Source, selection: Selection | None = None) -> Sequence[PreferencePair]:
        """The pairs that `prepare` built, without those that `keep` leaves out."""
        build = self._build(source)
        if not build.finished:  # called without a trainer
            build.run()
        refuse_changed(build.pairs_file, "start again: the next run makes it anew from the answers beside it")
        selection = selection or Selection()
        selection.read, selection.filtered, selection.refused = build.record_counts()
        pairs = keep_verified(read_pairs(build.pairs_file), self.keep, "data.init_args.build.keep")
        return selection.filter(f"not `keep: {self.keep}`", pairs)

    def _build(self, source: Source) -> Build:
        build = Build(
            source=source,
            recipe=self.recipe,
            generator=self.generator or TransformersGenerator(),
            policy=self.policy,
            output=Path(self.cache),
            verifiers=self.verifiers,
            decontamination=self.decontamination,
            seed=self.seed,
            window=self.window,
        )
        models = self._models(build.generator)
        build.output = Path(self.cache) / digest([build.settings(), str(self.policy), *([models] if models else [])])
        return build

    def _models(self, generator: TextGenerator) -> list[str | None]:
        """Weights, tokenizer and chat template as they lie in folders, where another run may have put others."""
        asked = [text] if (text := generator.reads(self.policy)) else []
        policies = [self.policy] if asked else []  # a server's weights cannot be seen
        policies += [item.policy for item in self.verifiers if isinstance(item, LogProbGap)]
        folders = sorted({folder for policy in policies for folder in policy.files.folders()})
        return [*asked, *map(files_fingerprint, folders)]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other runs that need the same pairs waiting; a lock goes with its process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("another run builds the same pairs in %s: waiting until it is done", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
