"""The command line: files by name, typed words over files, and what is said about what nobody can use."""
