"""Element codecs against ml_dtypes: every code of every narrow type, and encoding of random values, ties, limits and NaN."""

import ml_dtypes
import numpy as np
import pytest
from harness import run_graph

from mlc.dialects import graph
from mlc.dtypes import ALL, BF16, BOOL, BY_NAME, BY_NUMPY, F4E2M1FN, F8E8M0FNU, F16, F32, F64, U8, DType

FLOAT8 = [t for t in ALL if t.is_float and t.bits == 8 and t != F8E8M0FNU]
SMALL_FLOATS = [*FLOAT8, F4E2M1FN]
NARROW_FLOATS = [F16, BF16, *SMALL_FLOATS]


def every(dtype: DType) -> np.ndarray:
    """Every code of a type of at most 16 bits."""
    if dtype.bits < 8:
        return np.arange(1 << dtype.bits, dtype=np.uint8).view(dtype.numpy)
    return np.arange(1 << dtype.bits, dtype=np.uint16 if dtype.bits == 16 else np.uint8).view(dtype.numpy)


def casts(x: np.ndarray, targets: list[DType], **options: object) -> list[np.ndarray]:
    return run_graph(lambda v: [graph.cast(v, t, **options) for t in targets], x)


def hard_values(dtype: DType) -> np.ndarray:
    """f32 values around all that a narrow float distinguishes: its values, ties, their f32 neighbours; limits; random bits."""
    codes = every(dtype).astype(np.float32)
    finite = np.unique(codes[np.isfinite(codes)])
    with np.errstate(over="ignore"):
        finite = np.concatenate([finite, [finite[-1] * 2 - finite[-2]]])  # one step beyond the largest
    ties = ((finite[1:].astype(np.float64) + finite[:-1]) / 2).astype(np.float32)
    exact = np.concatenate([finite, ties]).astype(np.float32)
    near = np.concatenate([np.nextafter(exact, np.float32(np.inf)), np.nextafter(exact, np.float32(-np.inf))])
    rng = np.random.default_rng(5)
    noise = rng.integers(0, 1 << 32, 5000, dtype=np.uint32).view(np.float32)
    limits = np.array([0.0, 1e-45, 1e-40, 2.0**-126, 2.0**-127, 3.4e38, np.inf, np.nan], np.float32)
    positive = np.concatenate([exact, near, noise, limits])
    return np.concatenate([positive, -positive])


def same(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal bits, but any NaN for any NaN."""
    assert found.dtype == expected.dtype
    if found.dtype.kind in "fV" and found.dtype in BY_NUMPY and BY_NUMPY[found.dtype].is_float:
        nans = np.isnan(expected.astype(np.float64))
        assert np.array_equal(np.isnan(found.astype(np.float64)), nans)
        found, expected = found[~nans], expected[~nans]
    bad = np.flatnonzero(found.view(f"u{found.dtype.itemsize}") != expected.view(f"u{found.dtype.itemsize}"))
    assert not len(bad), [(found[i], expected[i]) for i in bad[:5]]


@pytest.mark.parametrize("name", [t.name for t in ALL if t.bits <= 16])
def test_decode_every_code(name: str) -> None:
    codes = every(BY_NAME[name]) if name != "i1" else np.array([False, True])
    (y,) = casts(codes, [F32])
    with np.errstate(invalid="ignore"):
        same(y, codes.astype(np.float32))


def test_encode_matches_ml_dtypes() -> None:
    for dtype in [*NARROW_FLOATS, F8E8M0FNU]:
        x = hard_values(dtype)
        if dtype == F4E2M1FN:
            x = x[~np.isnan(x)]  # it has no NaN: anything may come out
        if dtype == F8E8M0FNU:  # ml_dtypes takes all between 2^-127 and 2^-126 upwards; zero and negative values are not ours to compare
            x = x[(x == 2.0**-127) | (x >= 2.0**-126)]
        (y,) = casts(x, [dtype], saturate=False, round_mode="nearest")
        with np.errstate(all="ignore"):
            same(y, x.astype(dtype.numpy))


def test_float8_saturates() -> None:
    for dtype in FLOAT8:
        x = hard_values(dtype)
        (y,) = casts(x, [dtype])
        info = ml_dtypes.finfo(dtype.numpy)
        same(y, np.clip(x, np.float32(info.min), np.float32(info.max)).astype(dtype.numpy))
        (back,) = casts(y, [F32])
        assert np.array_equal(np.isnan(back), np.isnan(x))


def test_narrow_values_survive_a_round_trip() -> None:
    for dtype in [t for t in ALL if t.bits <= 16 and t.kind != "b" and t not in (F16, BF16)]:
        x = every(dtype)
        (back,) = run_graph(lambda v, t=dtype: graph.cast(graph.cast(v, F64), t, saturate=False, round_mode="down"), x)
        same(back, x)


def test_f64_rounds_once() -> None:
    rng = np.random.default_rng(7)
    for dtype in NARROW_FLOATS:
        mantissa = {"f16": 10, "bf16": 7}.get(dtype.name) or {"f8E4M3FN": 3, "f8E4M3FNUZ": 3, "f4E2M1FN": 1}.get(dtype.name, 2)
        whole = 1 + rng.integers(0, 1 << mantissa, 400) / (1 << mantissa)
        tie = whole + 2.0 ** -(mantissa + 1)
        x = np.concatenate(
            [tie, tie + 2.0**-40, tie - 2.0**-40, tie + 2.0**-30, -tie - 2.0**-41, [0.0, np.inf, -np.inf, 1e300, -1e300, 1e-300]]
        )
        exact = np.where(np.isin(np.arange(x.size) // 400, [1, 3]), whole[np.arange(x.size) % 400] + 2.0**-mantissa, 0)
        (y,) = casts(x, [dtype], saturate=False)
        got = y.astype(np.float64)
        up = np.isin(np.arange(x.size) // 400, [1, 3])
        assert np.array_equal(got[:2000][up[:2000]], exact[:2000][up[:2000]]), dtype  # just above a tie: up
        assert np.array_equal(got[800:1200], whole), dtype  # just below a tie: down
        assert np.array_equal(got[1600:2000], -(whole + 2.0**-mantissa)), dtype
    (y,) = casts(rng.integers(0, 1 << 64, 20000, dtype=np.uint64).view(np.float64), [F16])
    x = np.concatenate([rng.normal(size=5000), rng.normal(size=5000) * 1e-6, 2.0 ** rng.uniform(-30, 20, 5000)])
    (y,) = casts(x, [F16])
    with np.errstate(all="ignore"):
        same(y, x.astype(np.float16))


def test_e8m0_round_modes() -> None:
    x = np.array(
        [1, 1.25, 1.5, 1.75, 3, 2.0**-127, 1.1 * 2.0**-127, 1.5 * 2.0**-127, 1.75 * 2.0**-127, 2.0**-126, 2.0**127, -6], np.float32
    )
    modes = {
        "up": [1, 2, 2, 2, 4, 2.0**-127, 2.0**-126, 2.0**-126, 2.0**-126, 2.0**-126, 2.0**127, 8],
        "down": [1, 1, 1, 1, 2, 2.0**-127, 2.0**-127, 2.0**-127, 2.0**-127, 2.0**-126, 2.0**127, 4],
        "nearest": [1, 1, 2, 2, 4, 2.0**-127, 2.0**-127, 2.0**-126, 2.0**-126, 2.0**-126, 2.0**127, 8],
    }
    for mode, expected in modes.items():
        (y,) = casts(x, [F8E8M0FNU], round_mode=mode)
        assert y.astype(np.float64).tolist() == expected, mode
    extreme = np.array([0, 1e-45, 1.5 * 2.0**127, 1.9 * 2.0**127, np.inf, np.nan], np.float32)
    up, plain = run_graph(lambda v: [graph.cast(v, F8E8M0FNU), graph.cast(v, F8E8M0FNU, saturate=False, round_mode="nearest")], extreme)
    assert up.view(np.uint8).tolist() == [0, 0, 0xFE, 0xFE, 0xFE, 0xFF]
    assert plain.view(np.uint8).tolist() == [0xFF] * 6


def test_integers_wrap() -> None:
    x = np.concatenate([np.arange(-300, 300), [2**31 - 1, -(2**31), 2**40 + 5, -(2**63)]]).astype(np.int64)
    targets = [t for t in ALL if t.is_integer and t.bits < 64]
    for t, y in zip(targets, casts(x, targets), strict=True):
        same(y, x.astype(t.numpy))
    small = np.arange(-7.5, 8, 0.5).astype(np.float32)
    for t, y in zip(targets, casts(small, targets), strict=True):
        with np.errstate(invalid="ignore"):
            same(y, np.trunc(small).astype(np.int64).astype(t.numpy))


def test_bool() -> None:
    x = np.array([0.0, -0.0, np.nan, 0.1, -3, np.inf], np.float32)
    (y,) = casts(x, [BOOL])
    assert y.tolist() == [False, False, True, True, True, True]
    targets = [t for t in ALL if t not in (BOOL, F8E8M0FNU)]
    for t, z in zip(targets, casts(y, targets), strict=True):
        same(z, y.astype(np.float32).astype(t.numpy))


def test_bitcast_keeps_every_bit() -> None:
    for a, b in (("f16", "i16"), ("bf16", "ui16"), ("f8E4M3FN", "i8"), ("f8E5M2FNUZ", "ui8"), ("i8", "ui8")):
        x = every(BY_NAME[a])
        there, back = run_graph(lambda v, a=BY_NAME[a], b=BY_NAME[b]: [(w := graph.bitcast(v, b)), graph.bitcast(w, a)], x)
        assert np.array_equal(there, x.view(BY_NAME[b].numpy))
        assert back.tobytes() == x.tobytes()
    x = np.random.default_rng(1).integers(0, 1 << 62, 50)
    (y,) = run_graph(lambda v: graph.bitcast(v, F64), x)
    assert y.tobytes() == x.tobytes()
    (y,) = run_graph(lambda v: graph.bitcast(v, U8), np.array([True, False]))
    assert y.tolist() == [1, 0]
