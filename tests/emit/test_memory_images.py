from hwgen.emit.memory_images import hex_image


def test_lowest_byte_stands_in_the_lowest_bits_and_the_end_is_filled() -> None:
    assert hex_image(bytes([1, 2, 3, 4, 5, 6]), 4) == "04030201\n00000605\n"


def test_nothing_gives_nothing() -> None:
    assert hex_image(b"", 16) == ""
