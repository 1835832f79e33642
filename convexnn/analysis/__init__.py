"""What can be said of a network, or of all optimal ones."""
