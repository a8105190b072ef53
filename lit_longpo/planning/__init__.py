"""Predicts before anything is loaded what a run takes: memory, FLOPs, time, and settings that conflict."""
