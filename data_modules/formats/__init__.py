"""Layouts that preference data comes in, one file each or a few that belong together; `reader.py` picks one."""
