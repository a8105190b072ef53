"""Layouts of preference data, one file each or a few related ones; `reader.py` picks one, `parser.py` applies it."""
