"""What looks at finished pairs: verifiers, and evaluation files that must not leak."""
