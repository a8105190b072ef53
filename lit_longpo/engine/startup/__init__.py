"""What a model is tried on before it is trained or asked: whether it is scored right, and in which way."""
