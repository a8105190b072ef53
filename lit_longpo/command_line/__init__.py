"""The command line: configurations by name, typed options over files, and errors that say what to type instead."""
