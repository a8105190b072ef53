"""What a plan reads from the data module's section."""

import dataclasses
import inspect

from data_modules import PairDataModule
from lit_longpo.planning.inputs.row_arguments import RowArguments


def test_a_mixture_has_the_rows_of_its_sources():
    long = {"init_args": {"max_length": 4096, "positions": {"target_length": 8192}}}
    sources = {"long": long, "short": {"init_args": {"max_length": 512, "prefix_sharing": False}}}
    arguments = RowArguments.read({"max_tokens": 9000, "sources": sources})
    assert (arguments.max_tokens, arguments.max_length, arguments.prefix_sharing) == (9000, 4096, False)
    assert arguments.target_length == 8192
    sources["any"] = {"class_path": "SyntheticDataModule"}
    assert RowArguments.read({"sources": sources}).max_length is None


def test_row_arguments_are_those_of_the_data_modules():
    known = inspect.signature(PairDataModule).parameters
    assert {part.name for part in dataclasses.fields(RowArguments)} <= set(known)
    assert RowArguments.read({"path": "x", "max_length": None}) == RowArguments()
    arguments = RowArguments.read({"max_tokens": 512, "prefix_sharing": False, "positions": {"target_length": 9}})
    assert (arguments.max_tokens, arguments.prefix_sharing, arguments.target_length) == (512, False, 9)
