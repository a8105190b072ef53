"""Segments of a packed row: which queries attend to which pieces, as integers on the host."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """A run of queries and the pieces of the row it attends to, its own piece(s) last.

    Args:
        query_length: number of query tokens; segments cover the row in order.
        key_pieces: indices into `SegmentTable.pieces`, in sequence order: the prompt, in one piece or in several if
            prompts of other groups begin as it does, and the response.
    """

    query_length: int
    key_pieces: tuple[int, ...]


@dataclass(frozen=True)
class SegmentTable:
    """The only source of boundaries inside a packed row; host integers, no device sync.

    Args:
        pieces: lengths of the contiguous pieces of the row; they sum to T.
        segments: who attends to what, in row order; their query lengths sum to T.
    """

    pieces: tuple[int, ...]
    segments: tuple[Segment, ...]

    @property
    def num_tokens(self) -> int:
        """T, the length of the row."""
        return sum(self.pieces)

    @property
    def sequence_lengths(self) -> tuple[int, ...]:
        """Tokens that each segment attends to: what its sequence would have as a row of its own."""
        return tuple(sum(self.pieces[piece] for piece in segment.key_pieces) for segment in self.segments)

    @property
    def group_lengths(self) -> tuple[int, ...]:
        """Tokens of each group, prompt and responses, in row order, of those that share together; they sum to T."""
        lengths: dict[int, int] = {}  # by the prompt's piece, which all segments of a group attend to
        for segment in self.segments:
            prompt = segment.key_pieces[0]
            lengths[prompt] = lengths.get(prompt, 0) + segment.query_length
        return tuple(lengths.values())


@dataclass(frozen=True)
class Sharing:
    """The groups of a row in which some share tokens, as they would be on their own.

    Args:
        groups: of each segment, its group's number.
        scored: of each group, how many of the row's scored tokens are its own; these stand in the groups' order.
        first_tails: of each group, how many of the last tokens of its prompt and first response hold all scored ones.
        num_tokens: of all groups, each with a prompt of its own.
    """

    groups: tuple[int, ...]
    scored: tuple[int, ...]
    first_tails: tuple[int, ...]
    num_tokens: int
