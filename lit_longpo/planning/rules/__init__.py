"""Rules that `conflicts` lists: each is a function of the configuration to a message, or to `None`."""


def by_fit(problem: str | None) -> str | None:
    """What is said of a problem that `fit` ends with."""
    return problem and f"`fit` refuses this: {problem}"
