"""`plan --longest`: the longest row that fits, over every choice there is, and the command that runs it."""

from lit_longpo.planning.longest.finding import Longest, find_longest
from lit_longpo.planning.longest.search import Candidate

__all__ = ["Candidate", "Longest", "find_longest"]
