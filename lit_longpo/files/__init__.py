"""JSON that records lie in, read strictly: for pairs, questions and whatever else is written by hand."""
