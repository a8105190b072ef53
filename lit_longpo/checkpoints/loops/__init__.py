"""Changes to Lightning's loops and callbacks, so that no step of a stopped run is lost or counted twice."""
