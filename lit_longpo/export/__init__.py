"""Policies as folders that transformers alone loads."""

from lit_longpo.export.folder import check_replaceable, is_merged, save_policy

__all__ = ["check_replaceable", "is_merged", "save_policy"]
