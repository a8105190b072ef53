"""What a run will take, before anything is loaded: memory, FLOPs, time, and settings that cancel each other."""

from lit_longpo.planning.degrees import feasible_degrees

__all__ = ["feasible_degrees"]
