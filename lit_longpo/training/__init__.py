"""What surrounds a loss in a run: what is refused first, means over steps and ranks, what a checkpoint keeps."""
