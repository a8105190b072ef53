"""Kills of every command at moments of every phase, and what running it again gives; `make kills`."""
