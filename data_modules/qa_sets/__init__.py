"""Question-answering sets: read, laid out as short and long contexts, given wrong answers."""
