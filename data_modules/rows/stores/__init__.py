"""Tokenised examples in little memory: in arrays, in files, of several sources."""
