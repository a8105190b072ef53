"""Modules that treat tokens one by one, run in tiles of a row."""
