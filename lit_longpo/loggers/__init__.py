"""What a run shows beside its scalars, the same in every logger, and what it is called there."""

from lit_longpo.loggers.naming import name_loggers, named_logger
from lit_longpo.loggers.pages import RunPages, Table, pages_of
from lit_longpo.loggers.settings import SettingsCallback

__all__ = ["RunPages", "SettingsCallback", "Table", "name_loggers", "named_logger", "pages_of"]
