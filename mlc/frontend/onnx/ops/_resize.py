"""Resize along one axis as a table: which input elements make up each output element, and with which weights. All of it at compile time."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Taps:
    """indices, weights: [outputs, taps]. outside: output positions that take the extrapolation value instead."""

    indices: np.ndarray
    weights: np.ndarray
    outside: np.ndarray

    @property
    def is_copy(self) -> bool:
        """Every output is one input element."""
        return self.weights.shape[1] == 1

    def dense(self, extent: int) -> np.ndarray:
        """The table as a matrix [outputs, extent]."""
        matrix = np.zeros((len(self.indices), extent))
        np.add.at(matrix, (np.arange(len(self.indices))[:, None], self.indices), self.weights)
        return matrix


@dataclass(frozen=True)
class Interpolation:
    """How Resize interpolates: the attributes of the node."""

    mode: str
    coordinates: str
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False

    def along(self, extent: int, size: int, scale: float, roi: tuple[float, float] | None) -> Taps:
        """The table from `extent` to `size` elements by `scale` (which need not be their quotient)."""
        at = self._source(extent, size, scale, roi)
        outside = (at < 0) | (at > extent - 1) if self.coordinates == "tf_crop_and_resize" else np.zeros(size, bool)
        if self.mode == "nearest":
            return Taps(np.clip(self._nearest(at), 0, extent - 1).astype(np.int64)[:, None], np.ones((size, 1)), outside)
        # The window is counted from the element left of `at`; an integer `at` belongs to the pair that ends in it.
        floor = np.ceil(at) - 1
        ratio = at - floor
        shrink = min(scale, 1.0) if self.antialias else 1.0
        reach = 2 if self.mode == "cubic" else 1
        first = int(np.floor(-reach / shrink)) + 1
        taps = np.arange(first, 2 - first)
        weights = self._kernel((taps[None] - ratio[:, None]) * shrink)
        indices = (floor[:, None] + taps[None]).astype(np.int64)
        if self.antialias:
            weights = weights / weights.sum(1, keepdims=True)
        if self.exclude_outside:
            weights = np.where((indices < 0) | (indices >= extent), 0, weights)
            total = weights.sum(1, keepdims=True)
            weights = weights / np.where(total == 0, 1, total)
        return Taps(np.clip(indices, 0, extent - 1), weights, outside)

    def _source(self, extent: int, size: int, scale: float, roi: tuple[float, float] | None) -> np.ndarray:
        """The input coordinate of each output element."""
        y, width = np.arange(size, dtype=np.float64), scale * extent
        match self.coordinates:
            case "align_corners":
                return np.zeros(size) if width == 1 else y * (extent - 1) / (width - 1)
            case "asymmetric":
                return y / scale
            case "tf_crop_and_resize":
                start, end = roi or (0.0, 1.0)
                step = np.full(size, (end - start) * (extent - 1) / 2) if width == 1 else y * (end - start) * (extent - 1) / (width - 1)
                return step + start * (extent - 1)
            case "pytorch_half_pixel":
                return np.zeros(size) if width == 1 else (y + 0.5) / scale - 0.5
            case "half_pixel_symmetric":
                return extent / 2 * (1 - size / width) + (y + 0.5) / scale - 0.5
            case "tf_half_pixel_for_nn":
                return (y + 0.5) / scale
            case "half_pixel":
                return (y + 0.5) / scale - 0.5
        raise ValueError(f"coordinate_transformation_mode is {self.coordinates!r}")

    def _nearest(self, at: np.ndarray) -> np.ndarray:
        match self.nearest:
            case "round_prefer_floor":
                return np.ceil(at - 0.5)
            case "round_prefer_ceil":
                return np.floor(at + 0.5)
            case "floor":
                return np.floor(at)
            case "ceil":
                return np.ceil(at)
        raise ValueError(f"nearest_mode is {self.nearest!r}")

    def _kernel(self, distance: np.ndarray) -> np.ndarray:
        d, a = np.abs(distance), self.cubic
        if self.mode == "linear":
            return np.clip(1 - d, 0, 1)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0))
