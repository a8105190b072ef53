"""Checks of finished pairs: verifiers of the label, and decontamination against evaluation files."""
