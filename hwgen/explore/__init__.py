"""Ways to quantize a network, tried and compared."""
