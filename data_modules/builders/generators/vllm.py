"""Answers from vLLM in this process (needs a GPU and `pip install vllm`; not part of any extra's default)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_modules.builders.generators.base import TextGenerator
from data_modules.builders.generators.prompts import RequestPrompts
from data_modules.builders.generators.requests import Completion, Request, ended
from lit_longpo.errors import InputError, require_package
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.fingerprint import files_fingerprint
from lit_longpo.policy.prompts.thoughts import is_thinking
from lit_longpo.policy.weights import cached_commit
from lit_longpo.policy.window import readable_positions
from lit_longpo.servers import CUT_OFF, ENDED, broke_off, ending


@dataclass
class VLLMGenerator(TextGenerator):
    """vLLM's offline engine on the policy's files, with prompts as `fit` tokenises them.

    Args:
        options: keyword arguments of `vllm.LLM`, for example `{tensor_parallel_size: 4, max_model_len: 131072}`.
    """

    options: dict[str, Any] = field(default_factory=dict)

    gives_thoughts = True

    def __post_init__(self) -> None:
        self._engine: Any = None
        self._policy = PolicyConfig()
        self._prompts = RequestPrompts(self._policy)

    def open(self, policy: PolicyConfig) -> str:
        """Start the engine.

        Raises:
            MissingPackageError: vLLM is not installed.
            InputError: the policy changes positions, which vLLM has its own options for.
        """
        told = "type: pip install vllm (Linux with a GPU), or start `vllm serve` elsewhere and use ServerGenerator"
        require_package("vllm", "VLLMGenerator", told)
        if policy.rope is not None and "hf_overrides" not in self.options:
            raise InputError(
                "expected vLLM to be told about `policy.rope`, got no `hf_overrides` in `generator.init_args.options`; "
                "for example hf_overrides: {rope_parameters: {rope_theta: 1.0e+7, rope_type: default}}"
            )
        if (adapters := policy.files.adapters()) is not None:
            raise InputError(
                f"expected a whole model for vLLM, got adapters at {adapters.path}; merge them first (python -m "
                "lit_longpo export --checkpoint PATH --output FOLDER --merge_adapters true), or use "
                "TransformersGenerator"
            )
        from vllm import LLM

        self._engine = LLM(model=policy.source, dtype=policy.dtype, **self.options)
        self._policy, self._prompts = policy, RequestPrompts(policy)
        weights = _weights(policy, self.options.get("revision"))
        return f"vllm:{policy.source}:{weights}{self._prompts.settings}:{self.options}"

    def reads(self, policy: PolicyConfig) -> str:
        """Hash of the tokens of texts, and of the chat template's source."""
        return RequestPrompts(policy).identity()

    def answer(self, batches: Sequence[Sequence[Request]]) -> Iterator[Completion]:
        """All at once; the engine schedules them. What a stop text ends in its thoughts is asked again without it."""
        every = [request for batch in batches for request in batch]
        requests, failures = self._prompts.part_by_room(every, self._window())
        yield from failures
        asked_again = list[Request]()
        if requests:
            for request, output in self._outputs(requests, stops=True):
                if self._ends_in_thoughts(request, output.outputs[0]):
                    asked_again.append(request)
                else:
                    yield self._completion(request, output)
        if asked_again:
            for request, output in self._outputs(asked_again, stops=False):
                yield self._completion(request, output)
        self._prompts.forget()

    def _outputs(self, requests: Sequence[Request], *, stops: bool) -> Iterator[tuple[Request, Any]]:
        """Every request with what the engine says, ended by stop texts or not."""
        from vllm import SamplingParams

        formats = [self._prompts.format(request.system) for request in requests]
        prompts = [{"prompt_token_ids": list(self._prompts.ids(request))} for request in requests]
        settings = [
            SamplingParams(
                temperature=request.decoding.temperature,
                top_p=request.decoding.top_p,
                max_tokens=request.decoding.max_new_tokens,
                stop=list(request.decoding.stop) if stops else [],
                seed=request.seed,
                stop_token_ids=[form.end_id],
            )
            for request, form in zip(requests, formats, strict=True)
        ]
        yield from zip(requests, self._engine.generate(prompts, settings), strict=True)

    def _ends_in_thoughts(self, request: Request, best: Any) -> bool:
        """Whether a stop text may have ended an answer before it began (vllm#14170)."""
        if not request.decoding.stop or ending(best) != ENDED:
            return False
        return is_thinking(self._text(request, best), opened=self._prompts.format(request.system).opens_thoughts)

    def _text(self, request: Request, best: Any) -> str:
        """The engine's, which has no special tokens; of the tokens, where that does not tell an answer."""
        form = self._prompts.format(request.system)
        return form.decode_reply(best.token_ids) if form.hides_marks else str(best.text)

    def _completion(self, request: Request, output: Any) -> Completion:
        best = output.outputs[0]
        if broke_off(best):
            error = f"the engine ended the answer with {best.finish_reason!r:.100}"
            return Completion(request.id, "", error=error)
        opened = self._prompts.format(request.system).opens_thoughts
        cut_off = ending(best) == CUT_OFF
        answer, finished = ended(self._text(request, best), request.decoding.stop, cut_off=cut_off, opened=opened)
        counts = (len(output.prompt_token_ids), len(best.token_ids))
        return Completion(request.id, answer, finished, *counts, server_id=str(output.request_id))

    def _window(self) -> int | None:
        """Positions of the engine, which takes the model's unless it is told a number of them; -1 is none."""
        told = self.options.get("max_model_len")
        return told if isinstance(told, int) and told > 0 else readable_positions(self._policy.config())


def _weights(policy: PolicyConfig, revision: str | None) -> str:
    """What tells weights from others that had the name before: of a folder its files, of a hub's model its commit."""
    folder = policy.files.folder
    found = cached_commit(policy.source, revision) if folder is None else files_fingerprint(folder)
    return f"{found}:" if found else ""
