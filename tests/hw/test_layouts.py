"""Memory layouts: the worked examples of hardware/layouts.md, round trips, the silicon capture and hostile sizes."""

import csv

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given
from hypothesis import strategies as st

from rocketnpu.errors import Error
from rocketnpu.hw import layouts
from rocketnpu.hw.layouts import ChannelOperands, DenseImage, FeatureCube


def one_hot(shape, index, dtype=np.int8):
    array = np.zeros(shape, dtype)
    array[index] = 1
    return array


def only_byte_set(packed):
    (positions,) = np.nonzero(packed)
    assert positions.size == 1, f"bytes {positions} are set, not one"
    return int(positions[0])


@pytest.mark.parametrize(
    ("w", "h", "c", "pitch", "index", "byte"),
    [
        (5, 3, 16, 15, (0, 0, 0), 0),
        (5, 3, 16, 15, (3, 1, 2), 115),
        (5, 3, 32, 16, (17, 2, 4), 481),
        (7, 7, 64, 52, (63, 6, 6), 3279),
        (1, 1, 1024, 1, (1000, 0, 0), 1000),
    ],
)
def test_cube_index_examples(w, h, c, pitch, index, byte):
    cube = FeatureCube(h, w, c, pitch)
    channel, y, x = index
    assert cube.offset_bytes(channel, y, x) == byte
    assert only_byte_set(cube.pack(one_hot((h, w, c), (y, x, channel)))) == byte


cubes = st.builds(
    lambda h, w, c, gap, e: FeatureCube(h, w, c, h * w + gap, e),
    *(st.integers(1, 9), st.integers(1, 9), st.integers(1, 70), st.integers(0, 5), st.sampled_from([1, 2, 4])),
)


def random_array(shape, element_bytes, seed):
    return np.random.default_rng(seed).integers(-100, 100, shape).astype(f"i{element_bytes}")


@given(cube=cubes, seed=st.integers(0, 2**32 - 1))
def test_cube_round_trip_agrees_with_the_offset_formula(cube, seed):
    array = random_array((cube.height, cube.width, cube.channels), cube.element_bytes, seed)
    buffer = cube.pack(array)
    assert buffer.size == cube.size_bytes
    np.testing.assert_array_equal(cube.unpack(buffer, array.dtype), array)
    y, x, c = (int(v) for v in np.random.default_rng(seed).integers(0, array.shape))
    at = cube.offset_bytes(c, y, x)
    assert buffer[at : at + cube.element_bytes].view(array.dtype)[0] == array[y, x, c]


@given(cube=cubes, seed=st.integers(0, 2**32 - 1))
def test_cube_writes_fill_in_unused_lanes_and_nothing_between_planes(cube, seed):
    array = random_array((cube.height, cube.width, cube.channels), cube.element_bytes, seed)
    buffer = np.full(cube.size_bytes, 0x55, np.uint8)
    cube.pack_into(array, buffer, fill=7)
    lanes = cube.view(buffer, array.dtype).transpose(1, 2, 0, 3).reshape(cube.height, cube.width, -1)
    assert (lanes[..., cube.channels :] == 7).all()
    planes = buffer.reshape(cube.planes, cube.pitch_atoms * 16)
    assert (planes[:, cube.height * cube.width * 16 :] == 0x55).all()


def test_cube_packs_strided_arrays():
    array = np.arange(3 * 4 * 2 * 40, dtype=np.int8).reshape(3, 4, 80)[..., ::2]
    cube = FeatureCube(3, 4, 40)
    np.testing.assert_array_equal(cube.unpack(cube.pack(array)), array)


def test_a_row_tile_is_a_cube_at_the_full_pitch():
    image = np.arange(6 * 5 * 32, dtype=np.int16).astype(np.int8).reshape(6, 5, 32)
    whole = FeatureCube(6, 5, 32)
    tile = FeatureCube(2, 5, 32, whole.pitch_atoms)
    buffer = whole.pack(image)[whole.offset_bytes(0, 4, 0) :]
    assert buffer.size == tile.span_bytes, "the last tile ends with the tensor"
    np.testing.assert_array_equal(tile.unpack(buffer), image[4:])


def test_cube_refuses_what_it_cannot_hold():
    with pytest.raises(Error, match="overlap"):
        FeatureCube(4, 4, 32, 15)
    with pytest.raises(Error, match="at least 1"):
        FeatureCube(0, 4, 32)
    with pytest.raises(Error, match="3 bytes"):
        FeatureCube(1, 1, 1, element_bytes=3)
    cube = FeatureCube(4, 4, 32)
    with pytest.raises(Error, match="needs 512 bytes, the buffer has 511"):
        cube.unpack(np.zeros(511, np.uint8))
    with pytest.raises(Error, match="shape"):
        cube.pack(np.zeros((4, 4, 31), np.int8))
    with pytest.raises(Error, match="1-byte"):
        cube.pack(np.zeros((4, 4, 32), np.int16))


@given(
    *(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(0, 5), st.integers(0, 2**32 - 1)),
)
def test_dense_image_round_trip(h, w, c, gap, seed):
    image = DenseImage(h, w, c, w + gap)
    array = random_array((h, w, c), 1, seed)
    buffer = image.pack(array, fill=-3)
    assert buffer.size == h * (w + gap) * c
    np.testing.assert_array_equal(image.unpack(buffer), array)
    y, x, channel = (int(v) for v in np.random.default_rng(seed).integers(0, array.shape))
    assert buffer.view(np.int8)[((y * (w + gap)) + x) * c + channel] == array[y, x, channel]
    assert image.offset_bytes(channel, y, x) == (y * (w + gap) + x) * c + channel
    rows = buffer.view(np.int8).reshape(h, w + gap, c)
    assert (rows[:, w:] == -3).all()


@pytest.mark.parametrize(
    ("oc", "ic", "k", "index", "byte"),
    [
        (32, 32, 1, (5, 0, 0, 7), 167),
        (64, 64, 1, (33, 0, 0, 40), 3112),
        (32, 48, 3, (2, 1, 2, 40), 11816),
        (40, 16, 3, (35, 0, 1, 3), 4787),
    ],
)
def test_direct_weight_index_examples(oc, ic, k, index, byte):
    assert only_byte_set(layouts.pack_direct_weights(one_hot((oc, k, k, ic), index))) == byte


@pytest.mark.parametrize(("c", "index", "byte"), [(96, (2, 0, 70), 774), (64, (1, 1, 10), 266)])
def test_depthwise_weight_index_examples(c, index, byte):
    assert only_byte_set(layouts.pack_depthwise_weights(one_hot((3, 3, c), index))) == byte


@given(
    *(st.integers(1, 70), st.integers(1, 3), st.integers(1, 3), st.integers(1, 130)),
    st.sampled_from([np.int8, np.float16]),
    st.integers(0, 2**32 - 1),
)
def test_direct_weights_round_trip(oc, kh, kw, ic, dtype, seed):
    weights = np.random.default_rng(seed).integers(-100, 100, (oc, kh, kw, ic)).astype(dtype)
    size = weights.dtype.itemsize
    packed = layouts.pack_direct_weights(weights, fill=np.arange(oc))
    kernels = layouts.kernel_count(oc, size)
    assert packed.size == layouts.direct_weight_bytes(kernels, kh, kw, ic, size)
    assert packed.size == kernels * layouts.kernel_bytes(kh, kw, ic, size)
    np.testing.assert_array_equal(layouts.unpack_direct_weights(packed, oc, kh, kw, ic, dtype=dtype), weights)
    stored = layouts.stored_input_channels(ic, size)
    everything = layouts.unpack_direct_weights(packed, kernels, kh, kw, stored, kernels=kernels, dtype=dtype)
    zero_points = np.minimum(np.arange(kernels), oc - 1).astype(dtype)
    assert (everything[..., ic:] == zero_points[:, None, None, None]).all()
    assert (everything[oc:] == zero_points[oc:, None, None, None]).all()


@given(
    *(st.integers(1, 3), st.integers(1, 3), st.integers(1, 150)),
    st.sampled_from([np.int8, np.float16]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_depthwise_weights_round_trip(kh, kw, c, dtype, whole_groups, seed):
    weights = np.random.default_rng(seed).integers(-100, 100, (kh, kw, c)).astype(dtype)
    size = weights.dtype.itemsize
    stored = -(-c // 64) * 64 if whole_groups else -(-c * size // 16) * 16 // size
    option = stored if whole_groups else None
    packed = layouts.pack_depthwise_weights(weights, fill=9, stored_channels=option)
    assert packed.size == layouts.depthwise_weight_bytes(kh, kw, stored, size)
    unpacked = layouts.unpack_depthwise_weights(packed, kh, kw, c, stored_channels=option, dtype=dtype)
    np.testing.assert_array_equal(unpacked, weights)
    everything = layouts.unpack_depthwise_weights(packed, kh, kw, stored, stored_channels=stored, dtype=dtype)
    assert (everything[..., c:] == 9).all()


def test_odd_int8_kernel_counts_round_up_to_even():
    assert [layouts.kernel_count(n) for n in (1, 2, 33, 34)] == [2, 2, 34, 34]
    assert layouts.kernel_count(33, element_bytes=2) == 33


def test_half_precision_stores_three_leftover_atoms_as_four():
    assert [layouts.stored_input_channels(n, 2) for n in (8, 16, 17, 24, 25, 40, 56)] == [8, 16, 32, 32, 32, 40, 64]
    assert [layouts.stored_input_channels(n) for n in (1, 16, 17, 33, 48)] == [16, 16, 32, 48, 48]


def test_the_silicon_capture_stores_depthwise_weights_by_tap(shared):
    folder = shared / "vectors/silicon/teflon-dw"
    model = Interpreter(model_path=str(folder / "dw_pt.tflite"))
    model.allocate_tensors()
    (index,) = (t["index"] for t in model.get_tensor_details() if tuple(t["shape"]) == (1, 3, 3, 64))
    # The capture's driver stores bytes minus 128 (vectors/README.md); bytes wrap.
    expected = (model.get_tensor(index)[0].astype(np.int16) - 128).astype(np.int8)
    captured = np.fromfile(folder / "mesa-weights-000-000.bin", np.uint8)[:576]
    np.testing.assert_array_equal(layouts.unpack_depthwise_weights(captured, 3, 3, 64), expected)
    np.testing.assert_array_equal(layouts.pack_depthwise_weights(expected), captured)


def onnx_initializer(model, name, shape):
    """Float32 raw data of a TensorProto: its name (field 8), then length and bytes (field 9)."""
    field = b"\x42" + bytes([len(name)]) + name.encode() + b"\x4a"
    start = model.index(field) + len(field)
    while model[start] & 0x80:
        start += 1
    count = int(np.prod(shape))
    return np.frombuffer(model[start + 1 : start + 1 + 4 * count], "<f4").reshape(shape)


def quantize_as_the_vendor(weights, axes):
    """Asymmetric int8 over a range that includes 0: values, zero points and scales, in float64."""
    low = np.minimum(weights.min(axis=axes, keepdims=True), 0).astype(np.float64)
    high = np.maximum(weights.max(axis=axes, keepdims=True), 0).astype(np.float64)
    scale = (high - low) / 255
    zero_point = np.round(-128 - low / scale)
    return (
        np.clip(np.round(weights / scale + zero_point), -128, 127).astype(np.int8),
        zero_point.reshape(-1),
        scale.reshape(-1),
    )


VENDOR_LAYERS = [
    ("a", "conv1_w", (32, 32, 3, 3)),
    ("a2", "conv1_w", (48, 32, 3, 3)),  # a last group of 16 kernels
    ("a2", "conv2_w", (64, 48, 1, 1)),  # a half group of 16 input channels
    ("a2", "conv3_w", (32, 64, 3, 3)),
    ("b", "conv_rgb_w", (32, 3, 3, 3)),  # an image: lanes past 3 hold the zero point
    ("b", "dw_w", (32, 1, 3, 3)),  # depthwise with half a group
    ("b", "pw_w", (32, 32, 1, 1)),
    ("b", "branch_w", (32, 32, 3, 3)),
    ("b", "mix_w", (32, 64, 1, 1)),
    ("b", "fc_w", (10, 32, 1, 1)),
]


@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize(("model", "name", "shape"), VENDOR_LAYERS)
def test_packed_weights_are_byte_for_byte_in_the_vendors_programs(shared, model, name, shape, granularity):
    folder = shared / "vectors/vendor"
    weights = onnx_initializer((folder / f"{model}.onnx").read_bytes(), name, shape)
    quantized, zero_points, _ = quantize_as_the_vendor(weights, (1, 2, 3) if granularity == "channel" else None)
    if shape[1] == 1:
        packed = layouts.pack_depthwise_weights(quantized[:, 0].transpose(1, 2, 0))
    else:
        packed = layouts.pack_direct_weights(quantized.transpose(0, 2, 3, 1), fill=zero_points)
    program = (folder / f"{model}_{granularity}.rknn").read_bytes()
    assert program.count(packed.tobytes()) >= 1, f"{packed.size} bytes of {model}.{name} are not in the program"


@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_packed_operands_are_byte_for_byte_in_the_vendors_programs(shared, granularity):
    """Bias, weight zero points and multipliers of hardware/dpu.md, "Requantization parameters", vendor recipe."""
    folder = shared / "vectors/vendor"
    model = (folder / "a.onnx").read_bytes()
    bias = onnx_initializer(model, "conv1_b", (32,))
    weights = onnx_initializer(model, "conv1_w", (32, 32, 3, 3))
    axes = (1, 2, 3) if granularity == "channel" else None
    quantized, zero_points, scales = quantize_as_the_vendor(weights, axes)
    with (folder / f"a_{granularity}.tensors.csv").open() as rows:
        tensor = next(row for row in csv.DictReader(rows) if row["tensor"] == "x")
    input_scale, input_zero_point = float(tensor["scale"]), int(tensor["zero_point"])
    effective = quantized.reshape(32, -1) - zero_points[:, None]
    alu = (np.round(bias / (input_scale * scales)) - input_zero_point * effective.sum(axis=1)).astype(np.int32)
    if granularity == "channel":
        mul = np.round(scales / scales.max() * 16384).astype(np.int16)
        packed = layouts.pack_channel_operands(ChannelOperands(alu, -zero_points.astype(np.int16), mul), 32)
    else:
        packed = layouts.pack_bias(alu, 32)
    program = (folder / f"a_{granularity}.rknn").read_bytes()
    assert program.count(packed.tobytes()) == 1, f"operands {alu[:4]}... are not in the program"


def test_short_weights_are_refused():
    with pytest.raises(Error, match="need 1024 bytes, the buffer has 1023"):
        layouts.unpack_direct_weights(np.zeros(1023, np.uint8), 32, 1, 1, 32)
    with pytest.raises(Error, match="4 output channels do not fit in 2 kernels"):
        layouts.pack_direct_weights(np.zeros((4, 1, 1, 16), np.int8), kernels=2)
    with pytest.raises(Error, match="no known layout"):
        layouts.stored_input_channels(16, 4)


def test_channel_operands_lie_in_blocks_of_eight_channels():
    c = np.arange(20)
    operands = ChannelOperands((c + 70000).astype(np.int32), (c - 300).astype(np.int16), (c + 16384).astype(np.int16))
    packed = layouts.pack_channel_operands(operands, 32)
    assert packed.size == 256 == layouts.channel_operand_bytes(32)
    assert packed[84:88].view("<i4")[0] == 70013
    assert packed[106:108].view("<i2")[0] == -287
    assert packed[122:124].view("<i2")[0] == 16397
    back = layouts.unpack_channel_operands(packed, 20)
    for name in ("alu", "ow", "mul"):
        np.testing.assert_array_equal(getattr(back, name), getattr(operands, name))
    rest = layouts.unpack_channel_operands(packed, 32)
    for name in ("alu", "ow", "mul"):
        assert not getattr(rest, name)[20:].any(), name


def test_dense_operands_round_trip():
    bias = np.array([1, -2, 2**31 - 1, -(2**31)], np.int32)
    packed = layouts.pack_bias(bias, 32)
    assert packed.size == 128
    np.testing.assert_array_equal(layouts.unpack_bias(packed, 4), bias)
    slopes = np.array([-5, 32767, 16384], np.int16)
    packed = layouts.pack_multipliers(slopes, 32)
    assert packed.size == 64
    np.testing.assert_array_equal(layouts.unpack_multipliers(packed, 3), slopes)


def test_operands_beyond_their_field_are_refused():
    with pytest.raises(Error, match="32-bit"):
        layouts.pack_bias(np.array([2**31]), 32)
    with pytest.raises(Error, match="do not fit 32"):
        layouts.pack_bias(np.zeros(33, np.int32), 32)
    with pytest.raises(Error, match="operands need 64 bytes"):
        layouts.unpack_channel_operands(np.zeros(63, np.uint8), 8)


def test_depthwise_pads_odd_lanes_of_the_first_half_from_the_second_byte():
    pads = layouts.pad_lane_bytes(0x0000007E, 128, depthwise=True)
    expected = [0 if c % 2 and c % 64 < 32 else 0x7E for c in range(128)]
    assert pads.tolist() == expected


def test_direct_convolutions_pad_from_the_first_byte():
    assert layouts.pad_lane_bytes(0x11223385, 70, depthwise=False).tolist() == [-123] * 70
