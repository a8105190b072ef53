"""The data structures that flow between data, engine and objectives.

Shape legend, used in every docstring of the project:
    B  examples in a batch           M  rejected responses of one example
    T  tokens in the packed row      N  scored tokens in the row
    S  slots: (example, context, role, index) whose log-probability is wanted
"""

from lit_longpo.batch.groups import Group, Response
from lit_longpo.batch.packed import PackedBatch, PreferenceBatch, tensor_on
from lit_longpo.batch.scores import Scores
from lit_longpo.batch.segments import Segment, SegmentTable, Sharing
from lit_longpo.batch.views import Context, Role, Slot, View, Views

__all__ = [
    "Context",
    "Group",
    "PackedBatch",
    "PreferenceBatch",
    "Response",
    "Role",
    "Scores",
    "Segment",
    "SegmentTable",
    "Sharing",
    "Slot",
    "View",
    "Views",
    "tensor_on",
]
