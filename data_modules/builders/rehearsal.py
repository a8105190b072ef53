"""A dry run: shows the prompts that would be sent, and estimates their cost."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from data_modules.builders.build import Build
from data_modules.builders.generators.base import TextGenerator
from data_modules.builders.generators.prompts import RequestPrompts
from data_modules.builders.generators.requests import Completion, Request
from data_modules.builders.report import Outcome
from data_modules.builders.sources.tokens import TextTokens
from lit_longpo.policy import PolicyConfig

_SHOWN = 3  # prompts
SAMPLE = 20  # records that are rehearsed; the cost of the others is scaled from theirs


class RehearsedAnswers(dict[str, Completion]):
    """Answers of a dry run, in place of a journal."""

    append = dict.__setitem__


@dataclass
class Rehearsal(TextGenerator):
    """Answers every request with its stand-in and remembers the request."""

    requests: list[Request] = field(init=False, default_factory=list)

    def open(self, policy: PolicyConfig) -> str:
        """Nothing to get ready."""
        return "rehearsal"

    def answer(self, batches: Sequence[Sequence[Request]]) -> Iterator[Completion]:
        """The stand-ins."""
        for batch in batches:
            for request in batch:
                self.requests.append(request)
                yield Completion(request.id, request.stand_in)


def rehearse(build: Build) -> str:
    """Prompts in full and the expected cost, as text; no model is loaded and nothing is written."""
    total = build.num_records()
    for verifier in build.verifiers:
        verifier.check()
    rehearsal = Rehearsal()
    sample = replace(build, generator=rehearsal, verifiers=(), limit=min(SAMPLE, total))
    outcomes = list(sample.outcomes(RehearsedAnswers()))
    prompts = RequestPrompts(build.policy) if build.generator.reads(build.policy) else None
    shown = [f"--- prompt {request.id}\n{_shown(request, prompts)}\n" for request in rehearsal.requests[:_SHOWN]]
    cost = _cost(rehearsal.requests, len(outcomes), total, build.tokens)
    return "\n".join([*shown, *_left_out(outcomes), *cost])


def _left_out(outcomes: Sequence[tuple[Outcome, list[str]]]) -> list[str]:
    """Why records ask nothing; what becomes of the others depends on answers."""
    silent = [outcome for outcome, asked in outcomes if not asked]
    told = "; ".join(f"{reason}: {count}" for reason, count in Counter(one.reason for one in silent).items())
    return [f"{len(silent)} of {len(outcomes)} records ask nothing and make no pair ({told})"] if silent else []


def _shown(request: Request, prompts: RequestPrompts | None) -> str:
    """What the policy reads, its chat template's marks included; what a server is sent."""
    if prompts is not None:
        tokenizer = prompts.format(request.system).tokenizer
        return str(tokenizer.decode(list(prompts.ids(request)), clean_up_tokenization_spaces=False))
    return f"[system] {request.system}\n{request.text}" if request.system else request.text


def _cost(requests: Sequence[Request], sample: int, total: int, tokens: TextTokens) -> list[str]:
    scale = total / max(1, sample)
    prompt = sum(tokens.count(request.text) for request in requests)
    new = sum(request.decoding.max_new_tokens for request in requests)
    how = f"scaled from {sample}" if sample < total else "counted"
    return [
        f"{total:,} records ({how}): about {round(len(requests) * scale):,} requests, "
        f"{round(prompt * scale):,} prompt tokens",
        f"and at most {round(new * scale):,} new tokens; verifiers that ask a model come on top",
    ]
