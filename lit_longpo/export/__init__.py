"""Policies as folders that transformers alone loads."""

from lit_longpo.export.folder import is_merged, save_policy

__all__ = ["is_merged", "save_policy"]
