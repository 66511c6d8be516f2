"""Durations, sizes and names as text."""

from r23d_jax.runtime import text


def test_durations():
    assert [text.duration(s) for s in (0.4, 59.7, 185, 7620, 540_000)] == [
        "0 s",
        "1 min 0 s",
        "3 min 5 s",
        "2 h 7 min",
        "6 d 6 h",
    ]


def test_sizes():
    assert list(map(text.bytes_text, (512, 3 << 20, 5 << 29))) == ["0.5 KiB", "3.0 MiB", "2.50 GiB"]


def test_names_are_shortened_to_a_length():
    assert [text.shorten("Archery", length) for length in (7, 6, 2)] == ["Archery", "Arche…", "A…"]
