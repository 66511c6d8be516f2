"""The reader of TensorFlow checkpoints, against TensorFlow, and against files that TensorFlow would not write."""

import sys
import time

import ml_dtypes
import numpy as np
import pytest
from tensorboardX.crc32c import crc32c  # another implementation of this checksum

from r23d_jax.errors import UserError
from r23d_jax.weights import readers, tensorflow_files

DTYPES = "float32 float64 int8 int16 int32 int64 uint8 bool".split()
MORE = "float16 uint16 complex64 complex128".split()  # of version 1, TensorFlow writes these and does not read them
ONLY_V2 = ["uint32", "uint64", ml_dtypes.bfloat16]


def arrays(dtypes):
    """An array of each type, of random bytes, without those of NaN."""
    rng = np.random.default_rng(0)
    found = {}
    for number, dtype in enumerate(map(np.dtype, dtypes)):
        array = np.frombuffer(rng.bytes(60 * dtype.itemsize), dtype).reshape(3, 4, 5)
        if dtype.kind == "b":
            array = array.view(np.uint8) % 2 == 1
        elif dtype.kind not in "iu":
            array = rng.normal(size=(3, 4, 5)).astype(dtype)
        found[f"scope/{number}_{dtype.name}"] = array
    return found


def save(prefix, tensors, version, slices=None):
    import tensorflow as tf

    names, values = list(tensors), [tf.constant(value) for value in tensors.values()]
    if version == 1:
        tf.raw_ops.Save(filename=str(prefix), tensor_names=names, data=values)
    else:
        slices = slices or [""] * len(names)
        tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=slices, tensors=values)
    return prefix


def read(path):
    return readers.read_tensors(path).tensors


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        array = np.asarray(array)
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


def by_tensorflow(prefix, without=()):
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(prefix))
    return {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map().keys() - without}


@pytest.mark.parametrize("version", [1, 2])
def test_types_and_shapes(tmp_path, monkeypatch, version):
    tensors = arrays(DTYPES + MORE + ONLY_V2 * (version == 2))
    tensors |= {"scalar": np.float32(2.5), "empty": np.zeros((0, 3), np.float32), "one": np.array([7], np.int32)}
    tensors |= {"void": np.zeros((2, 0), np.int64), "long": np.arange(100_001, dtype=np.float32)}
    save(tmp_path / "a.ckpt", tensors, version)
    unread = arrays(DTYPES + MORE).keys() - arrays(DTYPES) if version == 1 else set()
    expected = by_tensorflow(tmp_path / "a.ckpt", unread)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    file = readers.read_tensors(tmp_path / "a.ckpt")
    same(file.tensors, tensors)
    same({name: array for name, array in file.tensors.items() if name not in unread}, expected)
    assert file.format == "tensorflow" and file.left_out == ()
    data = tmp_path / ("a.ckpt" if version == 1 else "a.ckpt.data-00000-of-00001")
    assert file.file == data.name and file.sha256 == readers.sha256(data)


@pytest.mark.parametrize("version", [1, 2])
def test_many_names(tmp_path, version):
    """Several blocks, of long names that differ late."""
    tensors = {f"{'a_very_long_scope/' * 8}{i % 7}/layer{i}": np.float32(i) for i in range(6000)}
    same(read(save(tmp_path / "a.ckpt", tensors, version)), tensors)


def test_only_empty_tensors(tmp_path):
    tensors = {"a": np.zeros((0, 2), np.float32)}
    same(read(save(tmp_path / "a.ckpt", tensors, 2)), tensors)
    assert (tmp_path / "a.ckpt.data-00000-of-00001").stat().st_size == 0


def test_strings_and_the_object_graph_are_left_out(tmp_path):
    import tensorflow as tf

    values = tf.Variable(np.arange(6, dtype=np.float32))
    path = tf.train.Checkpoint(values=values, note=tf.Variable("text")).save(str(tmp_path / "model"))
    file = readers.read_tensors(path)
    assert {"_CHECKPOINTABLE_OBJECT_GRAPH", "note/.ATTRIBUTES/VARIABLE_VALUE"} == set(file.left_out)
    np.testing.assert_array_equal(file.tensors["values/.ATTRIBUTES/VARIABLE_VALUE"], values)
    save(tmp_path / "old", {"a": np.float32(1), "b": np.array(["text"])}, 1)
    file = readers.read_tensors(tmp_path / "old")
    assert file.tensors == {"a": 1} and file.left_out == ("b",)


def test_several_shards(tmp_path):
    import tensorflow as tf

    shards = [{f"{letter}{i}": np.float32([i, 1]) for i in range(3)} for letter in "abc"]
    prefixes = [str(save(tmp_path / f"part{i}", tensors, 2)) for i, tensors in enumerate(shards)]
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=prefixes, destination_prefix=str(tmp_path / "a.ckpt"))
    file = readers.read_tensors(tmp_path)
    same(file.tensors, shards[0] | shards[1] | shards[2])
    assert file.file == "a.ckpt.index"
    (tmp_path / "a.ckpt.data-00001-of-00003").unlink()
    with pytest.raises(UserError, match="incomplete TensorFlow checkpoint: a.ckpt.data-00001-of-00003 is missing"):
        read(tmp_path)


def test_partitioned_variables(tmp_path):
    import tensorflow as tf

    values, other = np.arange(2000, dtype=np.float32).reshape(200, 10), {"weights2": np.float32([1, 2])}
    starts = [0, 3, 60, 64, 130]  # of one byte and of two in the keys
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [
            tf.compat.v1.Variable(values[start:end]) for start, end in zip(starts, [*starts[1:], 200], strict=True)
        ]
        for start, variable in zip(starts, variables, strict=True):
            info = tf.compat.v1.Variable.SaveSliceInfo("weights", [200, 10], [start, 0], variable.shape.as_list())
            variable._set_save_slice_info(info)
        variables.append(tf.compat.v1.Variable(other["weights2"], name="weights2"))
        session.run(tf.compat.v1.global_variables_initializer())
        for version in (1, 2):
            saver = tf.compat.v1.train.Saver(variables, write_version=version)
            path = saver.save(session, str(tmp_path / f"v{version}"), write_meta_graph=False, write_state=False)
            same(read(path), {"weights": values} | other)


# --- damage --------------------------------------------------------------------------------------------------


@pytest.fixture(params=[1, 2])
def small(request, tmp_path):
    """A small checkpoint: what to read, its file or files, and what is in it."""
    tensors = {"scope/weights": np.arange(6, dtype=np.float32).reshape(2, 3), "scope/steps": np.int64(300)}
    path = save(tmp_path / "a.ckpt", tensors, request.param)
    return path, sorted(tmp_path.iterdir()), tensors


def read_or_refused(path, expected):
    """The right answer, or one line that says what is wrong."""
    try:
        same(read(path), expected)
    except UserError as error:
        assert "\n" not in str(error)
        return str(error)


def test_every_byte_changed(small):
    path, files, tensors = small
    refused = []
    for file in files:
        good = file.read_bytes()
        for at in range(len(good)):
            file.write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :])
            refused.append(read_or_refused(path, tensors))
        file.write_bytes(good)
    assert sum(map(bool, refused)) > len(refused) - 60  # the footer's padding and the block of filters are not used


def test_every_length(small):
    path, files, tensors = small
    for file in files:
        good = file.read_bytes()
        for size in range(len(good)):
            file.write_bytes(good[:size])
            assert read_or_refused(path, tensors)
        file.write_bytes(good)


def masked(data):
    crc = crc32c(data)
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


@pytest.mark.parametrize("size", [*range(10), 16379, 16380, 16381, 16384, 40000])
def test_checksum(size):
    data = np.random.default_rng(size).bytes(size)
    assert tensorflow_files._masked_crc32c(np.frombuffer(data, np.uint8)) == int.from_bytes(masked(data), "little")


def number(value):
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)


def message(*fields):
    """A protocol buffer of (number, integer or bytes); a float stands for a number of 32 bits."""
    found = b""
    for key, value in fields:
        if isinstance(value, bytes):
            found += number(key << 3 | 2) + number(len(value)) + value
        elif isinstance(value, float):
            found += number(key << 3 | 5) + int(value).to_bytes(4, "little")
        else:
            found += number(key << 3) + number(value)
    return found


END = b"\0\0\0\0\1\0\0\0"  # of a block: the first key is whole


def table(entries, raw=None, kind=0):
    """A table of one block, checksums included."""
    block = b"".join(number(0) + number(len(k)) + number(len(v)) + k + v for k, v in sorted(entries.items()))
    found = block + END if raw is None else raw
    handle = number(0) + number(len(found))
    found += bytes([kind]) + masked(found + bytes([kind]))
    index = number(0) + number(1) + number(len(handle)) + b"z" + handle + END
    footer = number(0) + number(0) + number(len(found)) + number(len(index))
    return found + index + b"\0" + masked(index + b"\0") + footer.ljust(40, b"\0") + tensorflow_files.MAGIC


def shape(*sizes):
    return message(*((2, message((1, size))) for size in sizes))


DATA = np.arange(6, dtype=np.float32).tobytes()
CRC = float(int.from_bytes(masked(DATA), "little"))
WHOLE = {1: 1, 2: shape(2, 3), 5: 24, 6: CRC}


def bundle(folder, entries, data=DATA):
    """A checkpoint of these records."""
    records = {b"": message((1, 1), (3, message((1, 1))))} | {k: message(*v.items()) for k, v in entries.items()}
    (folder / "a.index").write_bytes(table(records))
    (folder / "a.data-00000-of-00001").write_bytes(data)
    return folder / "a"


def test_what_the_tests_write_is_read(tmp_path):
    for found in (read, by_tensorflow):
        same(found(bundle(tmp_path, {b"w": WHOLE})), {"w": np.arange(6, dtype=np.float32).reshape(2, 3)})


@pytest.mark.parametrize(
    "change",
    [
        {2: shape(2, 4)},
        {2: shape(2**62, 2**62)},
        {2: shape(2**64 - 1, 2**64 - 6)},
        {2: shape(*[1] * 65)},
        {2: shape(*[2**63] * 200_000)},
        {2: 6},
        {2: b"\xff" * 20},
        {3: 1},
        {3: b"x"},
        {4: 1},
        {4: 2**63},
        {5: 2**63},
        {5: 20},
        {6: CRC + 1 if CRC < 2**32 - 1 else 0.0},
        {7: message((1, message((1, 0), (2, 2))))},
        {7: 5},
    ],
)
def test_records_that_do_not_fit(tmp_path, change):
    start = time.monotonic()
    assert "damaged or truncated" in read_or_refused(bundle(tmp_path, {b"w": WHOLE | change}), {})
    assert time.monotonic() - start < 5


def test_parts_that_do_not_fit(tmp_path):
    """Neither memory for the shape that is said, nor the same bytes again and again."""
    part = {1: 1, 2: shape(2, 3), 5: 24, 6: CRC}
    for sizes, start in [((2**20, 2**20), 0), ((4, 3), 7), ((2, 3), 0)]:
        extents = message((1, message((1, start), (2, 2))), (1, message()))
        whole = {1: 1, 2: shape(*sizes), 7: extents}
        found = read_or_refused(
            bundle(tmp_path, {b"\0w\0\1\1": part, b"w": whole}), {"w": np.frombuffer(DATA, "f4").reshape(2, 3)}
        )
        assert bool(found) == (sizes != (2, 3))
    assert "less data" in read_or_refused(bundle(tmp_path, {b"a": WHOLE, b"b": WHOLE}), {})


def test_many_shards_big_endian_and_no_header(tmp_path):
    bundle(tmp_path, {b"w": WHOLE})
    for header, expected in [
        ({b"": message((1, 2**62))}, "is missing beside the index"),
        ({b"": message((1, 1), (2, 1))}, "big-endian"),
        ({b"": message((1, 0))}, "damaged or truncated"),
        ({}, "damaged or truncated"),
    ]:
        (tmp_path / "a.index").write_bytes(table(header | {b"w": message(*WHOLE.items())}))
        assert expected in read_or_refused(tmp_path / "a", {})


def test_keys_that_grow_without_end(tmp_path):
    """Each entry repeats the whole of the first key, of a megabyte, by a few bytes."""
    first = number(0) + number(1 << 20) + number(0) + b"x" * (1 << 20)
    (tmp_path / "a.index").write_bytes(table({}, raw=first + (number(1 << 20) + b"\0\0") * 100_000 + END))
    assert "do not fit" in read_or_refused(tmp_path / "a", {})


@pytest.mark.parametrize(
    "compressed, data",
    [
        (b"\x03\x08abc", b"abc"),
        (b"\x64\xf0\x63" + b"x" * 100, b"x" * 100),
        (b"\xac\x02\xf4\x2b\1" + b"x" * 300, b"x" * 300),
        (b"\x0c\x0cabcd\x11\x04", b"abcdabcdabcd"),  # copies of one, two and four bytes of offset, overlapping
        (b"\x43\x08abc\xfe\x03\0", b"abc" * 22 + b"a"),
        (b"\x08\x0cabcd\x0f\x04\0\0\0", b"abcdabcd"),
    ],
)
def test_compression(compressed, data):
    assert tensorflow_files._decompress(compressed) == data
    for broken in (compressed + b"\0x", b"\x04\x01\x01", b"\x05\0a\x01\x02", b"\x05\0a\x01\x00"):
        with pytest.raises(ValueError):
            tensorflow_files._decompress(broken)


def test_compressed_index(tmp_path):
    """As a TensorFlow that was built with snappy writes it where it merges checkpoints."""
    name = b"w" * 150
    bundle(tmp_path, {name: WHOLE})
    plain = (tmp_path / "a.index").read_bytes()
    size = tensorflow_files._numbers(plain[-48:], 0, 3)[2] - 5
    block = number(size) + b"\xf4" + (size - 3).to_bytes(2, "little") + plain[: size - 2] + b"\x06\1\0"
    (tmp_path / "a.index").write_bytes(table({}, raw=block, kind=1))
    for found in (read, by_tensorflow):
        same(found(tmp_path / "a"), {name.decode(): np.arange(6, dtype=np.float32).reshape(2, 3)})
    (tmp_path / "a.index").write_bytes(table({}, raw=block, kind=2))
    assert "compression 2" in read_or_refused(tmp_path / "a", {})


@pytest.mark.parametrize("version", [1, 2])
def test_damage_with_the_right_checksums(tmp_path, version):
    """Records with random bytes in them: arrays, or a refusal, and no other error."""
    rng = np.random.default_rng(version)
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(300, dtype=np.int64)}
    path = save(tmp_path / "a", tensors, version)
    index = path if version == 1 else tmp_path / "a.index"
    records = {key: bytes(value) for key, value in tensorflow_files._table(np.fromfile(index, np.uint8))}
    refused = 0
    for _ in range(1500):
        key = sorted(records)[rng.integers(len(records))]
        value = bytearray(records[key])
        for at in rng.integers(len(value), size=rng.integers(1, 3)):
            value[at] = rng.integers(256)
        index.write_bytes(table(records | {key: bytes(value)}))
        try:
            assert all(isinstance(array, np.ndarray) for array in read(path).values())
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 100 < refused < 1500
