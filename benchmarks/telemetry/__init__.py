"""What metrics and logs cost: the same work by a fleet that has them, and by one in which they do nothing."""
