"""Answers from vLLM in this process (needs a GPU and `pip install vllm`; not part of any extra's default)."""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_modules.builders.generators.base import TextGenerator
from data_modules.builders.generators.requests import Completion, Request
from data_modules.builders.generators.transformers import prompts_identity, request_format
from lit_longpo.errors import InputError, MissingPackageError
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.fingerprint import files_fingerprint
from lit_longpo.servers import CUT_OFF, broke_off


@dataclass
class VLLMGenerator(TextGenerator):
    """vLLM's offline engine on the policy's files, with prompts as `fit` tokenises them.

    Args:
        options: keyword arguments of `vllm.LLM`, for example `{tensor_parallel_size: 4, max_model_len: 131072}`.
    """

    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._engine: Any = None
        self._policy = PolicyConfig()

    def open(self, policy: PolicyConfig) -> str:
        """Start the engine.

        Raises:
            ImportError: vLLM is not installed.
            ValueError: the policy changes positions, which vLLM has its own options for.
        """
        if importlib.util.find_spec("vllm") is None:
            raise MissingPackageError(
                "VLLMGenerator needs vLLM (Linux with a GPU); type: pip install vllm, or start `vllm serve` elsewhere "
                "and use ServerGenerator"
            )
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
        self._policy, template = policy, policy.template
        settings = f"{template.chat}:{template.options}:{template.markup}:{template.date}"
        return f"vllm:{policy.source}:{_weights(policy)}{settings}:{self.options}"

    def reads(self, policy: PolicyConfig) -> str:
        """Hash of the tokens of texts, and of the chat template's source."""
        return prompts_identity(policy)

    def answer(self, batches: Sequence[Sequence[Request]]) -> Iterator[Completion]:
        """All at once; the engine schedules them."""
        from vllm import SamplingParams

        requests = [request for batch in batches for request in batch]
        formats = {system: request_format(self._policy, system) for system in {request.system for request in requests}}
        prompts = [
            {"prompt_token_ids": list(formats[request.system].encode_prompt("", request.text).ids)}
            for request in requests
        ]
        settings = [
            SamplingParams(
                temperature=request.decoding.temperature,
                top_p=request.decoding.top_p,
                max_tokens=request.decoding.max_new_tokens,
                stop=list(request.decoding.stop),
                seed=request.seed,
                stop_token_ids=[formats[request.system].end_id],
            )
            for request in requests
        ]
        outputs = self._engine.generate(prompts, settings)
        for request, output in zip(requests, outputs, strict=True):
            best = output.outputs[0]
            if broke_off(best.finish_reason):
                error = f"the engine ended the answer with {best.finish_reason!r:.100}"
                yield Completion(request.id, "", error=error)
                continue
            finished, counts = best.finish_reason != CUT_OFF, (len(output.prompt_token_ids), len(best.token_ids))
            yield Completion(request.id, best.text.strip(), finished, *counts, server_id=str(output.request_id))


def _weights(policy: PolicyConfig) -> str:
    """What tells weights in a folder from others that lay there before; a hub's name stands for itself."""
    folder = policy.files.folder
    return "" if folder is None else f"{files_fingerprint(folder)}:"
