"""More than the fleet can do: what is accepted finishes, the rest is told when to come back."""
