"""A policy as lm-evaluation-harness asks it; importing this takes the optional package and some seconds."""

import copy
import math
from collections.abc import Sequence
from typing import Any

from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs
from torch import Tensor, nn

from lit_longpo.engine import NanDetector, base_model, check_answers, nan_error
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat
from lit_longpo.policy.prompts.borders import put_nothing_behind
from lit_longpo.policy.prompts.thoughts import THOUGHT, in_think_marks, is_thinking, opens_thoughts
from lit_longpo.policy.window import readable_positions

_OPENING = 8  # tokens at a prompt's end, in which thoughts may be opened


class HarnessModel(HFLM):
    """The harness's model, which answers in the policy's own chat template, if in any, and without its thoughts.

    What a stop text has ended in its thoughts is asked again without it, and thoughts alone are an empty answer.

    Args:
        model: in `generation_mode`.

    Attributes:
        num_cut: prompts that lost their beginning, for which the harness leaves a line in its log.
        num_thinking: answers that have nothing but thoughts, which it would score.
    """

    def __init__(
        self, model: nn.Module, prompt_format: PromptFormat, batch_size: int, *, in_chat: bool = False
    ) -> None:
        self.num_cut = self.num_thinking = 0
        self._prompt_format, self._in_chat = prompt_format, in_chat
        tokenizer = copy.deepcopy(prompt_format.tokenizer)  # the harness may give it a padding token
        put_nothing_behind(tokenizer)
        super().__init__(
            pretrained=base_model(model),
            tokenizer=tokenizer,
            batch_size=batch_size,
            max_length=readable_positions(base_model(model).config),
            think_end_token=THOUGHT,
            chat_template_args=dict(prompt_format.chat_arguments),
        )

    def _loglikelihood_tokens(self, requests: Any, *rest: Any, **options: Any) -> Any:
        self.num_cut += sum(len(asked) + len(said) > self.max_length + 1 for _, asked, said in requests)
        found = super()._loglikelihood_tokens(requests, *rest, **options)
        if any(math.isnan(log_prob) for log_prob, _ in found):
            raise nan_error(self.model.dtype)
        return found

    def tok_batch_encode(self, strings: Any, *rest: Any, left_truncate_len: int | None = None, **options: Any) -> Any:
        """Of the harness; counts the prompts that it cuts."""
        found = super().tok_batch_encode(strings, *rest, left_truncate_len=None, **options)
        if left_truncate_len is None:
            return found
        self.num_cut += int((found[1].sum(-1) > left_truncate_len).sum())
        return tuple(part[:, -left_truncate_len:] for part in found)

    def generate_until(self, requests: Any, *rest: Any, **options: Any) -> Any:
        """Of the harness; refuses what would not leave room for a prompt."""
        self._check_room(requests)
        check_answers(self.model)
        return super().generate_until(requests, *rest, **options)

    def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **options: Any) -> Tensor:
        detector = NanDetector()
        options["logits_processor"] = [detector]
        found: Tensor = super()._model_generate(context, max_length, stop, **options)
        detector.check(self.model.dtype)
        thinking = self._thinking(context, found)
        stopped = any(mark and mark in text for mark in stop for text in thinking.values())
        if stopped and found.shape[1] < max_length:
            found = super()._model_generate(context, max_length, [], **options)
            thinking = self._thinking(context, found)
        self.num_thinking += len(thinking)
        found[list(thinking), context.shape[1] :] = self.tokenizer.pad_token_id
        return found

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """Of the harness; thoughts are in the marks that it knows."""
        if skip_special_tokens and self._prompt_format.hides_marks:
            return self._prompt_format.decode_reply(tokens, opened=self._in_chat)
        return in_think_marks(str(super().tok_decode(tokens, skip_special_tokens)))

    def _check_room(self, requests: Sequence[Any]) -> None:
        """Refuse answers that leave no room for a prompt; the harness would end in an AssertionError."""
        positions = self.max_length
        for request in requests:
            tokens = normalize_gen_kwargs(request.args[1], self.max_gen_toks)["max_gen_toks"]
            if tokens >= positions:
                raise InputError(
                    f"expected answers shorter than the model's {positions:,} positions, got up to {tokens:,} tokens "
                    f"in {request.task_name}; leave the task out of `tasks`, or set `generation_kwargs: "
                    f"{{max_gen_toks: {positions // 2}}}` in a YAML of your own and `include_path` to its folder"
                )

    def _thinking(self, context: Tensor, found: Tensor) -> dict[int, str]:
        """Answers that end in thoughts, by their rows: a stop text has ended them, or the tokens were over.

        The harness knows of the first only under vLLM (lm-evaluation-harness#3700).

        Args:
            context: prompts. Shape: (batch, num_prompt_ids)
            found: prompts and what was generated. Shape: (batch, num_ids)
        """
        opened = [opens_thoughts(self.tokenizer.decode(prompt[-_OPENING:])) for prompt in context]
        texts = [self.tok_decode(row) for row in found[:, context.shape[1] :].tolist()]
        return {row: text for row, text in enumerate(texts) if is_thinking(text, opened=opened[row])}
