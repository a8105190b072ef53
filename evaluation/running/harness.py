"""lm-evaluation-harness through its Python API: is it there, does it know the tasks, who answers it."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from lit_longpo.engine import base_model, end_ids, generation_mode
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


def require_harness(wanted_by: str) -> None:
    """Refuse where the optional package is missing."""
    require_package("lm_eval", wanted_by, "type: pip install 'lit_longpo[lm-eval]'")


def task_manager(include_path: str | None, tasks: Collection[str]) -> Any:
    """The harness's list of tasks, which has all of the given ones; reading its own takes a while.

    Args:
        include_path: folder of task YAML files; then only those are known.
        tasks: names.

    Raises:
        MissingFileError: the folder is not there.
        InputError: a task is unknown.
    """
    manager = _manager(include_path)
    if unknown := [name for name in tasks if name not in manager.all_tasks]:
        where = f"in {include_path}: {', '.join(sorted(manager.all_tasks))}" if include_path else ""
        raise InputError(
            f"expected tasks that lm-evaluation-harness knows {where or '(lm-eval ls tasks)'}, got "
            f"{', '.join(unknown)}; correct `tasks`"
        )
    return manager


def chat_options(prompt_format: PromptFormat, apply_chat_template: bool) -> dict[str, Any]:
    """How the harness wraps its prompts: in the policy's chat template, below its system message, or in none."""
    system = prompt_format.template.system if apply_chat_template else None
    return {"apply_chat_template": apply_chat_template, "system_instruction": system}


def cut_notes(judge: Any) -> tuple[str, ...]:
    """What to say of prompts that did not fit, and of answers that did not begin, if there were any.

    Args:
        judge: a `HarnessModel` that has been asked.
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
    """`HarnessModel` in `generation_mode`: of the model's own generation settings only the end tokens have a say.

    Args:
        model: outside of `generation_mode`.
        prompt_format: its tokenizer; what ends its answers ends them here.
        batch_size: questions in one forward.
        in_chat: whether they are asked in its chat template.
    """
    from evaluation.running.harness_model import HarnessModel  # with the optional package

    ends = dict.fromkeys((*prompt_format.stop_ids, *end_ids(model)))  # the harness itself knows the tokenizer's alone
    with generation_mode(model), tasks_at_hand():
        base_model(model).generation_config.eos_token_id = list(ends)
        yield HarnessModel(model, prompt_format, batch_size, in_chat=in_chat)


@contextmanager
def tasks_at_hand() -> Iterator[None]:
    """Say in one line what a task lacks: its data, or a package that it alone wants.

    Raises:
        UnreachableError: the data are not stored here, and the hub gives none.
        MissingPackageError: the package is missing.
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
