"""Search: prices, neurons that would improve a network, and column generation."""
