"""Made-up worlds of facts, and the tokenizer that knows their words."""
