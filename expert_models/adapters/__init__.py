"""Models of other makers as experts, by way of their own packages; none is needed or loaded unless it was added."""
