"""Projections onto the cones of activation patterns."""
