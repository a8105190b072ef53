"""lm-evaluation-harness through its Python API: is it there, does it know the tasks, who answers it."""

import copy
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lit_longpo.engine import NumbersOnly, base_model, check_answers, end_ids, generation_mode, no_numbers
from lit_longpo.errors import (
    InputError,
    MissingFileError,
    MissingPackageError,
    UnreachableError,
    UserError,
    error_text,
    require_package,
)
from lit_longpo.policy import PromptFormat
from lit_longpo.policy.prompts.borders import put_nothing_behind
from lit_longpo.policy.prompts.thoughts import THOUGHT, in_think_marks, is_thinking, opens_thoughts
from lit_longpo.policy.window import readable_positions

_OPENING = 8  # tokens at a prompt's end, in which thoughts may be opened


def require_harness(wanted_by: str) -> None:
    """Refuse where the optional package is missing."""
    require_package("lm_eval", wanted_by, "type: pip install 'lit_longpo[lm-eval]'")


def task_manager(include_path: str | None, tasks: Collection[str]) -> Any:
    """The harness's list of tasks, which has all of the given ones; reading its own takes a while.

    Args:
        include_path: folder of task YAML files; then only those are known.
        tasks: names.

    Raises:
        FileNotFoundError: the folder is not there.
        ValueError: a task is unknown.
    """
    manager = _manager(include_path)
    if unknown := [name for name in tasks if name not in manager.all_tasks]:
        where = f"in {include_path}: {', '.join(sorted(manager.all_tasks))}" if include_path else ""
        raise InputError(
            f"expected tasks that lm-evaluation-harness knows {where or '(lm-eval ls tasks)'}, got "
            f"{', '.join(unknown)}; correct `tasks`"
        )
    return manager


def _counting_model(prompt_format: PromptFormat, *, in_chat: bool) -> Any:
    """The harness's class of models, which counts cut prompts and tells answers from thoughts.

    What a stop text has ended in its thoughts is asked again without it, and thoughts alone are an empty answer.
    """
    from lm_eval.models.huggingface import HFLM

    class Counting(HFLM):  # type: ignore[misc]  # the harness has no types
        num_cut = 0
        num_thinking = 0

        def _loglikelihood_tokens(self, requests: Any, *rest: Any, **options: Any) -> Any:
            self.num_cut += sum(len(asked) + len(said) > self.max_length + 1 for _, asked, said in requests)
            found = super()._loglikelihood_tokens(requests, *rest, **options)
            if any(math.isnan(log_prob) for log_prob, _ in found):
                raise no_numbers(self.model.dtype)
            return found

        def tok_batch_encode(
            self, strings: Any, *rest: Any, left_truncate_len: int | None = None, **options: Any
        ) -> Any:
            found = super().tok_batch_encode(strings, *rest, left_truncate_len=None, **options)
            if left_truncate_len is None:
                return found
            self.num_cut += int((found[1].sum(-1) > left_truncate_len).sum())
            return tuple(part[:, -left_truncate_len:] for part in found)

        def generate_until(self, requests: Any, *rest: Any, **options: Any) -> Any:
            _check_room(requests, self.max_length, self.max_gen_toks)
            check_answers(self.model)
            return super().generate_until(requests, *rest, **options)

        def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **options: Any) -> Tensor:
            numbers = NumbersOnly()
            options["logits_processor"] = [numbers]
            found: Tensor = super()._model_generate(context, max_length, stop, **options)
            numbers.check(self.model.dtype)
            thinking = _thinking(context, found, self.tokenizer, self.tok_decode)
            if found.shape[1] < max_length and _stopped(thinking.values(), stop):
                found = super()._model_generate(context, max_length, [], **options)
                thinking = _thinking(context, found, self.tokenizer, self.tok_decode)
            self.num_thinking += len(thinking)
            found[list(thinking), context.shape[1] :] = self.tokenizer.pad_token_id
            return found

        def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
            if skip_special_tokens and prompt_format.hides_marks:
                return prompt_format.decode_reply(tokens, opened=in_chat)
            return in_think_marks(str(super().tok_decode(tokens, skip_special_tokens)))  # the harness knows no others

    return Counting


def harness_model(model: nn.Module, prompt_format: PromptFormat, batch_size: int, *, in_chat: bool = False) -> Any:
    """A model as the harness asks it, in the policy's own chat template if in any, its thoughts left out of answers.

    Its `num_cut` counts the prompts that lost their beginning, for which the harness leaves a line in its log, its
    `num_thinking` the answers that have nothing but thoughts, which it would score.

    Args:
        model: in `generation_mode`.
        prompt_format: its tokenizer and chat template.
        batch_size: questions in one forward.
        in_chat: whether it will be asked in that template.
    """
    tokenizer = copy.deepcopy(prompt_format.tokenizer)  # the harness may give it a padding token
    put_nothing_behind(tokenizer)
    return _counting_model(prompt_format, in_chat=in_chat)(
        pretrained=base_model(model),
        tokenizer=tokenizer,
        batch_size=batch_size,
        max_length=readable_positions(base_model(model).config),
        think_end_token=THOUGHT,
        chat_template_args=dict(prompt_format.chat_arguments),
    )


def _check_room(requests: Sequence[Any], positions: int, usual: int) -> None:
    """Refuse answers that leave no room for a prompt; the harness would end in an AssertionError."""
    from lm_eval.models.utils import normalize_gen_kwargs

    for request in requests:
        tokens = normalize_gen_kwargs(request.args[1], usual)["max_gen_toks"]
        if tokens >= positions:
            raise InputError(
                f"expected answers shorter than the model's {positions:,} positions, got up to {tokens:,} tokens in "
                f"{request.task_name}; leave the task out of `tasks`, or set `generation_kwargs: {{max_gen_toks: "
                f"{positions // 2}}}` in a YAML of your own and `include_path` to its folder"
            )


def _stopped(texts: Iterable[str], stop: Sequence[str]) -> bool:
    """Whether a stop text, empty ones aside, is in any of the texts."""
    return any(mark and mark in text for mark in stop for text in texts)


def _thinking(context: Tensor, found: Tensor, tokenizer: Any, read: Callable[[list[int]], str]) -> dict[int, str]:
    """Rows that end in thoughts: a stop text has ended them (lm-evaluation-harness#3700), or the tokens were over.

    Args:
        context: prompts. Shape: (batch, num_prompt_ids)
        found: prompts and what was generated. Shape: (batch, num_ids)
        tokenizer: that decodes prompts.
        read: text of an answer.

    Returns:
        By the row's number, its text.
    """
    opened = [opens_thoughts(tokenizer.decode(prompt[-_OPENING:])) for prompt in context]
    texts = [read(row) for row in found[:, context.shape[1] :].tolist()]
    return {row: text for row, text in enumerate(texts) if is_thinking(text, opened=opened[row])}


def chat_options(prompt_format: PromptFormat, apply_chat_template: bool) -> dict[str, Any]:
    """How the harness wraps its prompts: in the policy's chat template, below its system message, or in none."""
    system = prompt_format.template.system if apply_chat_template else None
    return {"apply_chat_template": apply_chat_template, "system_instruction": system}


def cut_notes(judge: Any) -> tuple[str, ...]:
    """What to say of prompts that did not fit, and of answers that did not begin, if there were any.

    Args:
        judge: a `harness_model` that has been asked.
    """
    said = {
        f"{judge.num_cut} prompts lost their beginning, longer than the model's {judge.max_length:,} positions": (
            judge.num_cut
        ),
        f"{judge.num_thinking} answers were still thinking when the tokens were over, and are empty": (
            judge.num_thinking
        ),
    }
    return tuple(text for text, number in said.items() if number)


@contextmanager
def asked_by_harness(model: nn.Module, prompt_format: PromptFormat, batch_size: int, *, in_chat: bool) -> Iterator[Any]:
    """`harness_model` in `generation_mode`: of the model's own generation settings only the end tokens have a say.

    Args:
        model: outside of `generation_mode`.
        prompt_format: its tokenizer; what ends its answers ends them here.
        batch_size: questions in one forward.
        in_chat: whether they are asked in its chat template.
    """
    ends = dict.fromkeys((*prompt_format.stop_ids, *end_ids(model)))  # the harness itself knows the tokenizer's alone
    with generation_mode(model), tasks_at_hand():
        base_model(model).generation_config.eos_token_id = list(ends)
        yield harness_model(model, prompt_format, batch_size, in_chat=in_chat)


@contextmanager
def tasks_at_hand() -> Iterator[None]:
    """Say in one line what a task lacks: its data, or a package that it alone wants.

    Raises:
        ConnectionError: the data are not stored here, and the hub gives none.
        ModuleNotFoundError: the package is missing.
    """
    from datasets.exceptions import DatasetNotFoundError

    try:
        yield
    except UserError:
        raise
    except (ConnectionError, DatasetNotFoundError) as error:
        raise UnreachableError(
            f"expected the data of a task, got none: {error_text(error)}; run the same command where the hub "
            "is reached (HF_HUB_OFFLINE keeps it from being asked, gated data want `hf auth login`), or leave the "
            "task out of `tasks`"
        ) from error
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"expected the package '{error.name}' for a task of lm-evaluation-harness, got none; type: pip install "
            f"{error.name}, or leave the task out of `tasks`"
        ) from error


def draws_from_asked(task: Any) -> bool:
    """Whether a task's solved examples are drawn from the questions that are asked.

    Where `fewshot_split` is not stated the harness takes those of training, else of validation, else of the test.
    """
    config, own = task.config, task.fewshot_cfg
    if own.split is None and own.samples is not None:
        return False
    drawn = own.split or config.training_split or config.validation_split or config.test_split
    return bool(drawn == (config.test_split or config.validation_split))


def _manager(include_path: str | None) -> Any:
    from lm_eval.tasks import TaskManager

    class Manager(TaskManager):  # type: ignore[misc]
        """Its tasks leave a question out of its own solved examples, also where no split is stated for these.

        The harness does so where the stated one is the test's (lm-evaluation-harness#4145).
        """

        def load(self, *tasks: Any) -> Any:
            loaded = super().load(*tasks)
            for task in filter(draws_from_asked, loaded["tasks"].values()):
                task.fewshot_cfg.split = task.config.test_split
            return loaded

    if include_path is None:
        return Manager()
    folder = Path(include_path).expanduser()
    if not folder.is_dir():
        raise MissingFileError(f"expected a folder of task YAML files, got {include_path}; set `include_path`")
    return Manager(include_path=str(folder), include_defaults=False)
