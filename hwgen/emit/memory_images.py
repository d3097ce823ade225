"""Bytes as Verilog memory images."""

from __future__ import annotations


def hex_image(data: bytes, word_bytes: int) -> str:
    """Text for $readmemh: one word of `word_bytes` per line, lowest byte of memory in the lowest bits, the last word filled with zeros."""
    padded = data + bytes(-len(data) % word_bytes)
    return "".join(f"{padded[k : k + word_bytes][::-1].hex()}\n" for k in range(0, len(padded), word_bytes))
