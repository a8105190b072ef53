"""What Lightning's loops and its callbacks do in another way here, so that no step is lost or counted twice."""
