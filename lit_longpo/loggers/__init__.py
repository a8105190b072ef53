"""Pictures, tables and settings of a run, shown alike by every logger; and the run's name."""

from lit_longpo.loggers.naming import name_loggers, named_logger
from lit_longpo.loggers.pages import RunPages, Table, pages_of
from lit_longpo.loggers.settings import SettingsCallback

__all__ = ["RunPages", "SettingsCallback", "Table", "name_loggers", "named_logger", "pages_of"]
