"""RULER's texts at the largest size that fits a length: the official search, once for each tokenizer."""

import random
from collections.abc import Mapping
from typing import Any

from evaluation.benchmark import Example
from evaluation.benchmarks.ruler.generator import Generator
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat


class Fitting:
    """Texts of examples, and how large their contexts can be."""

    def __init__(self, generators: Mapping[str, Generator[Any]], seed: int) -> None:
        self.generators, self.seed = generators, seed
        self._format: PromptFormat | None = None
        self._sizes: dict[tuple[str, int], int] = {}

    def example(self, task: str, length: int, row: int) -> Example:
        """A question with its answers, without its context; arguments as of `texts`."""
        generator, draw = self.generators[task], self._stream(task, length, row)
        asked = generator.asked(generator.hidden(draw, length, row), draw)
        about = f"{task}/{row}" if generator.asks_again else ""
        name, question = f"{task}/{length}-{row}", generator.question(asked)
        return Example(name, task, length, question, asked.answers, {"row": str(row)}, context=about)

    def texts(self, task: str, length: int, row: int, size: int) -> tuple[str, str]:
        """The user's message and the answer prefix, with a context of some size.

        Args:
            task: that is asked.
            length: tokens of prompt and answer.
            row: number of the example at that length.
            size: of the context, in the generator's units.
        """
        generator, draw = self.generators[task], self._stream(task, length, row)
        hidden = generator.hidden(draw, length, row)
        asked = generator.asked(hidden, draw)
        context = generator.context(hidden, self._stream(task, length, row, "hay"), size)
        return generator.message(hidden, asked, context), generator.answer_prefix(asked)

    def ids(self, example: Example, prompt_format: PromptFormat) -> tuple[int, ...]:
        """Tokens of an example, made smaller by the official steps until it fits.

        Raises:
            InputError: it does not fit at its smallest.
        """
        generator, row = self.generators[example.task], int(example.fields["row"])
        size, step = self._size(example.task, example.length, prompt_format), generator.step(example.length)
        while True:
            ids = self._ids(example.task, example.length, row, size, prompt_format)
            if len(ids) <= generator.room(example.length):
                return ids
            if size <= max(step, generator.smallest):
                raise InputError(
                    f"expected {example.id} to fit {example.length} tokens, got {len(ids)} and "
                    f"{generator.template.max_new_tokens} new ones at its smallest; drop that length from `lengths`, "
                    "or leave the task out"
                )
            size = max(size - step, generator.smallest)

    def _size(self, task: str, length: int, prompt_format: PromptFormat) -> int:
        """Found once for each tokenizer, by the first row."""
        if self._format is not prompt_format:
            self._format, self._sizes = prompt_format, {}
            for generator in self.generators.values():
                generator.prepare(lambda text: len(prompt_format.encode(text)))
        if (task, length) not in self._sizes:
            self._sizes[task, length] = self.generators[task].size(
                lambda size: len(self._ids(task, length, 0, size, prompt_format)), length
            )
        return self._sizes[task, length]

    def _ids(self, task: str, length: int, row: int, size: int, prompt_format: PromptFormat) -> tuple[int, ...]:
        message, prefix = self.texts(task, length, row, size)
        return prompt_format.encode_message(message, prefix)

    def _stream(self, *names: object) -> random.Random:
        return random.Random("-".join(map(str, (self.seed, *names))))
