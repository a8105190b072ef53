"""Experiments that can be run again: suites of cells, their results, and the tables of RESULTS.md."""
