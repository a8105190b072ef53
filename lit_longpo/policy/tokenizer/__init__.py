"""The tokenizer at `policy.source`, and the rules of its files where transformers follows others."""
