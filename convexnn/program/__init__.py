"""The training problem, the convex program over it, and the way back to a network."""
