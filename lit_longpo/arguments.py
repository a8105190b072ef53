"""Types and defaults of a class's arguments, those of its bases included."""

import inspect
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Arguments = dict[str, tuple[Any, object]]  # type and default by name
_CHOICES = (Union, UnionType, Literal)


@cache
def arguments_of(cls: Any) -> Arguments:
    """The arguments of a class and of its bases; types and defaults of a base count where the class states none."""
    makers = [kind for kind in inspect.getmro(cls) if "__init__" in vars(kind) and kind is not object]
    return {name: argument for kind in reversed(makers) for name, argument in _own(kind).items()}


def _own(kind: Any) -> Arguments:
    """Of the class alone; nothing where its types are only there for a type checker."""
    try:
        hints = get_type_hints(kind.__init__)
    except (NameError, TypeError):
        return {}
    parameters = inspect.signature(kind.__init__).parameters
    return {name: (hint, parameters[name].default) for name, hint in hints.items() if name in parameters}


def takes_null(hint: Any) -> bool:
    """Whether a type leaves room for `None`."""
    if hint in (Any, object, None, NoneType) or isinstance(hint, TypeVar):
        return True
    of_values = get_args(hint) if not isinstance(hint, type) and get_origin(hint) in _CHOICES else ()
    return any(takes_null(part) for part in of_values)
