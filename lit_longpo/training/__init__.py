"""What surrounds the loss in a run: checks before it starts, means over steps and ranks, and resuming."""
