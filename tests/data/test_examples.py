"""Values located in a record's wire format, against protocol buffers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_generated_pb2 as proto

from r23d_jax.data import examples


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20), st.dictionaries(st.text(), st.integers(0)))
def test_frame_spans_agree_with_protocol_buffers(frames, others):
    example = proto.Example()
    example.features.feature["frames"].bytes_list.value.extend(frames)
    for name, number in others.items():
        if name != "frames":
            example.features.feature[name].int64_list.value.append(number % 2**62)
    data = example.SerializeToString()
    assert [data[a:b] for a, b in examples.frame_spans(data)] == frames


@settings(max_examples=200)
@given(st.binary(max_size=200), st.data())
def test_frame_spans_of_anything_end_in_a_value_error(noise, draw):
    example = proto.Example()
    example.features.feature["frames"].bytes_list.value.extend([b"abc", b"defg"])
    data = bytearray(example.SerializeToString())
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    for candidate in (bytes(data), noise):
        try:
            spans = examples.frame_spans(candidate)
        except ValueError:
            continue
        assert (spans[:, 0] <= spans[:, 1]).all()
        assert spans.max() <= len(candidate)


@pytest.mark.parametrize(
    "values, message",
    [([7], None), ([2**40], None), ([], "message ends early|0 fields"), ([1, 2], "has several values")],
)
def test_a_feature_of_one_integer(values, message):
    example = proto.Example()
    example.features.feature["label"].int64_list.value.extend(values)
    data = example.SerializeToString()
    if message is None:
        assert examples.integer(b"xx" + data, 2, 2 + len(data), "label") == values[0]
        return
    with pytest.raises(ValueError, match=message):
        examples.integer(data, 0, len(data), "label")


def test_a_number_without_an_end():
    example = proto.Example()
    example.features.feature["label"].int64_list.value.append(1)
    data = example.SerializeToString()
    with pytest.raises(ValueError, match="message ends early"):
        examples.integer(data[:-1] + b"\x81", 0, len(data), "label")
    with pytest.raises(ValueError, match="no feature named frames"):
        examples.integer(data, 0, len(data), "frames")
