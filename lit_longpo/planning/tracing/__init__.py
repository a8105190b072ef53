"""Activations of a step, traced with the engine's own code on tensors without values."""
