"""Rules that `conflicts` lists: each is a function of the configuration to a message, or to `None`."""


def by_fit(problem: str | None) -> str | None:
    """The message about a problem that `fit` refuses."""
    return problem and f"`fit` refuses this: {problem}"
