"""The instruction set: the narrow waist between operators and hardware."""
