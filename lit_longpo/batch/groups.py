"""Prompts and the responses that continue them, as tokens of the host."""

from dataclasses import dataclass

from lit_longpo.batch.views import Context, Role


@dataclass(frozen=True)
class Response:
    """Tokens that follow a prompt, and which of them are scored.

    Args:
        role: chosen or rejected.
        token_ids: the response's tokens, end-of-turn token included.
        mask: True where the token belongs to an answer and is scored; questions between the
            answers of a multi-turn response are False. Same length as `token_ids`.
        index: which rejected response this is, `0 <= index < M`; 0 for chosen.
    """

    role: Role
    token_ids: tuple[int, ...]
    mask: tuple[bool, ...]
    index: int = 0


@dataclass(frozen=True)
class Group:
    """One prompt and the responses that continue it; the prompt is computed once.

    Args:
        example: identifier of the example, unique inside a batch.
        context: which context the prompt holds.
        prompt_ids: the prompt's tokens, at least one.
        responses: at least one response; the first shares the prompt's own attention call.
        position_ids: strictly increasing positions of the prompt's tokens; `None` means 0, 1, 2 ...
            Responses continue from the last position.
        turn: distinguishes several groups of one example and context (multi-turn references);
            their log-probabilities are added.
        score_sequence: also score the prompt and the unmasked tokens of the first response, which
            must be the chosen one (`Scores.sequence_nll`).
        sequence_mask: which tokens of prompt and first response `score_sequence` counts besides the
            answers; `None` means all.
    """

    example: str
    context: Context
    prompt_ids: tuple[int, ...]
    responses: tuple[Response, ...]
    position_ids: tuple[int, ...] | None = None
    turn: int = 0
    score_sequence: bool = False
    sequence_mask: tuple[bool, ...] | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens this group occupies in a row."""
        return len(self.prompt_ids) + sum(len(response.token_ids) for response in self.responses)

    @property
    def reach(self) -> int:
        """Positions that prompt and longest response take, synthesised ones as they are."""
        prompt = len(self.prompt_ids) if self.position_ids is None else self.position_ids[-1] + 1
        return prompt + max(len(response.token_ids) for response in self.responses)
