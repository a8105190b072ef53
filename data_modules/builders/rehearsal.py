"""A dry run: what would be asked, and what it would cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from data_modules.builders.build import Build
from data_modules.builders.generators.base import Generator
from data_modules.builders.generators.requests import Completion, Request
from data_modules.builders.generators.transformers import TransformersGenerator, layout
from data_modules.builders.sources.tokens import TextTokens
from lit_longpo.policy import PolicyConfig

SAMPLE = 20  # records that are rehearsed; the cost of the others is scaled from theirs


class Memory(dict[str, Completion]):
    """Answers of a dry run."""

    append = dict.__setitem__


@dataclass
class Rehearsal(Generator):
    """Answers every request with its stand-in and remembers what was asked."""

    asked: list[Request] = field(init=False, default_factory=list)

    def open(self, policy: PolicyConfig) -> str:
        """Nothing to get ready."""
        return "rehearsal"

    def answer(self, batches: Sequence[Sequence[Request]]) -> Iterator[Completion]:
        """The stand-ins."""
        for batch in batches:
            for request in batch:
                self.asked.append(request)
                yield Completion(request.id, request.stand_in)


def rehearse(build: Build, num_prompts: int = 3) -> str:
    """Prompts in full and the expected cost, as text; no model is loaded and nothing is written.

    Args:
        build: what would be run.
        num_prompts: prompts shown.
    """
    total = sum(1 for _ in build.source.items(build.tokens))
    total = min(total, build.limit or total)
    rehearsal = Rehearsal()
    sample = replace(build, generator=rehearsal, verifiers=(), limit=min(SAMPLE, total))
    for _ in sample.outcomes(Memory()):
        pass
    own = build.policy if isinstance(build.generator, TransformersGenerator) else None
    shown = [f"--- prompt {request.id}\n{_shown(request, own)}\n" for request in rehearsal.asked[:num_prompts]]
    return "\n".join([*shown, *_cost(rehearsal.asked, min(SAMPLE, total), total, build.tokens)])


def _shown(request: Request, policy: PolicyConfig | None) -> str:
    """What the policy reads, its chat template's marks included; what a server is sent."""
    if policy is not None:
        form = layout(policy, request.system)
        return str(form.tokenizer.decode(list(form.encode_prompt("", request.text).ids)))
    return f"[system] {request.system}\n{request.text}" if request.system else request.text


def _cost(asked: Sequence[Request], sample: int, total: int, tokens: TextTokens) -> list[str]:
    scale = total / max(1, sample)
    prompt = sum(tokens.count(request.text) for request in asked)
    new = sum(request.decoding.max_new_tokens for request in asked)
    how = f"scaled from {sample}" if sample < total else "counted"
    return [
        f"{total:,} records ({how}): about {round(len(asked) * scale):,} requests, "
        f"{round(prompt * scale):,} prompt tokens",
        f"and at most {round(new * scale):,} new tokens; verifiers that ask a model come on top",
    ]
