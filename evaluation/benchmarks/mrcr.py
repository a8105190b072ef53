"""OpenAI-MRCR: say the n-th of several equal requests' answers once more. Data: hub openai/mrcr (MIT)."""

import json
from collections.abc import Sequence

from evaluation.benchmark import Example
from evaluation.benchmarks.official_files import Row
from evaluation.benchmarks.records import WholeRecordBenchmark, prompt_end
from evaluation.metrics import score
from evaluation.prompting import Prompt, uncut
from lit_longpo.policy import PromptFormat
from lit_longpo.policy.prompts.encoded_prompt import Surroundings

_NEW_TOKENS = 4096
_ROLES = ("system", "user", "assistant")


class MRCR(WholeRecordBenchmark):
    """2,400 conversations with 2, 4 or 8 needles, in eight bins from 4,096 to 1,048,576 tokens.

    Args:
        path: one of the Parquet files, or their folder; JSON Lines with the same fields.
        max_chars: longer conversations (`n_chars`) are left out; they are never cut.
        max_new_tokens: tokens of an answer at most; the official answers have below 10,000 characters.

    Raises:
        MissingFileError: there is no such file.
        InputError: a record is malformed, or none is left.
    """

    name = "openai_mrcr"
    protocol = "openai/mrcr, the card's score"
    known_tasks = ("2needle", "4needle", "8needle")
    num_official = 2400
    notes = ("a length holds the prompt in the model's own tokens; official bins are of o200k_base, answer included",)

    def __init__(self, path: str, max_chars: int | None = None, max_new_tokens: int = _NEW_TOKENS) -> None:
        super().__init__(path, max_chars, max_new_tokens)

    def example(self, row: Row, name: str) -> Example:
        """The conversation stays as it stands, as JSON."""
        conversation, num_needles = row.text("prompt"), row.count("n_needles")
        fields = {"conversation": conversation, "prefix": row.text("random_string_to_prepend")}
        if f"{num_needles}needle" not in self.known_tasks:
            raise row.error("n_needles", "2, 4 or 8", num_needles)
        if not fields["prefix"]:
            raise row.error("random_string_to_prepend", "text that is not empty", "")
        messages = _messages(row, conversation)
        num_chars = sum(len(text) for _, text in messages)
        question, answer = prompt_end(messages[-1][1]), (row.text("answer"),)
        return Example(name, f"{num_needles}needle", num_chars, question, answer, fields)

    def prompt(
        self,
        example: Example,
        prompt_format: PromptFormat,
        max_length: int,
        *,
        window: int | None = None,
        earlier: Sequence[str] = (),
    ) -> Prompt:
        """The conversation in the model's chat template, whole.

        Raises:
            InputError: there is no chat template; it is longer than `max_length`, or with the answer than `window`.
        """
        said = [(item["role"], item["content"]) for item in json.loads(example.fields["conversation"])]
        system = said[0][1] if said[0][0] == "system" else None
        history = tuple(said[:-1] if system is None else said[1:-1])
        encoded = prompt_format.encode_prompt(said[-1][1], None, Surroundings(system, history))
        num_tokens = len(encoded.ids) - sum(encoded.format_mask)
        prompt = Prompt(
            encoded.ids,
            self.max_new_tokens,
            prompt_format.stop_ids,
            num_tokens=num_tokens,
            uses_chat=prompt_format.uses_chat,
            messages=tuple(said),
        )
        return uncut(prompt, max_length, window, example.length)

    def score(self, example: Example, prediction: str) -> float:
        """Similarity to the wanted answer, if the response begins with the prefix."""
        return score(self.name, example.task, prediction, example.answers, prefix=example.fields["prefix"])


def _messages(row: Row, conversation: str) -> list[tuple[str, str]]:
    """Roles and texts; the user has the last word, and a system message stands in front only."""
    try:
        items = json.loads(conversation)
        said = [(str(item["role"]), str(item["content"])) for item in items]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise row.error("prompt", "JSON of messages with role and content", conversation) from error
    row.check_whole("prompt", *(text for _, text in said))
    roles = [role for role, _ in said]
    if not set(roles) <= set(_ROLES) or "system" in roles[1:] or roles[-1:] != ["user"]:
        raise row.error("prompt", "messages of system, user and assistant, the user's last", roles[-3:])
    return said
