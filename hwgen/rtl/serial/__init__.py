"""The serial machine: the same instruction set on a tiny device, one thing after the other."""
