"""What pairs are built from, and how texts are measured and cut."""
