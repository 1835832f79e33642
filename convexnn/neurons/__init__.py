"""Neurons: what a hidden neuron does with its input, and what its weights are paid in."""
