"""Sliding windows: what auto_pad, pads and ceil_mode come to, per spatial dimension."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext


@dataclass(frozen=True)
class Window:
    """low, high: padding that the op declares. extra: more at the end, for the last windows of ceil_mode. size: output extents."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    low: list[int]
    high: list[int]
    extra: list[int]
    size: list[int]

    @property
    def rank(self) -> int:
        return len(self.kernel)


def window_of(ctx: NodeContext, spatial: Sequence[int], kernel: Sequence[int], *, ceil: bool = False) -> Window:
    """The window that the attributes strides, dilations, pads and auto_pad describe over `spatial`."""
    rank = len(spatial)
    strides, dilations = _list(ctx, "strides", rank), _list(ctx, "dilations", rank)
    pads, auto = ctx.attr("pads", None) or [0] * 2 * rank, ctx.attr("auto_pad", "NOTSET")
    if len(kernel) != rank or len(pads) != 2 * rank:
        raise ModelError(f"kernel {list(kernel)} and pads {pads} do not fit {rank} spatial dimensions", node=ctx.label)
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", ""):
        raise ModelError(f"auto_pad is {auto!r}, expected NOTSET, VALID, SAME_UPPER or SAME_LOWER", node=ctx.label)
    if min([*strides, *dilations, *kernel], default=1) < 1:
        raise ModelError(f"kernel {list(kernel)}, strides {strides} and dilations {dilations} must be positive", node=ctx.label)
    low, high, extra, size = [], [], [], []
    for d, n in enumerate(spatial):
        reach = (kernel[d] - 1) * dilations[d] + 1
        before, after = (pads[d], pads[rank + d]) if auto in ("NOTSET", "") else (0, 0)
        if auto.startswith("SAME"):
            count = -(-n // strides[d])
            total = max(0, (count - 1) * strides[d] + reach - n)
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
            after = total - before
        room = n + before + after - reach
        if room < 0 and not (ceil and room > -strides[d]):
            raise ModelError(f"a window of {reach} does not fit the {n + before + after} padded elements of spatial dimension {d}",
                             node=ctx.label)
        count = (-(-room // strides[d]) if ceil else room // strides[d]) + 1
        if ceil and (count - 1) * strides[d] >= n + before:
            count -= 1  # a window that starts in the padding after the input does not count
        low.append(before)
        high.append(after)
        extra.append(max(0, (count - 1) * strides[d] + reach - (n + before + after)))
        size.append(count)
    return Window(list(kernel), strides, dilations, low, high, extra, size)


def _list(ctx: NodeContext, name: str, rank: int) -> list[int]:
    values = list(ctx.attr(name, None) or [1] * rank)
    if len(values) != rank:
        raise ModelError(f"{name} {values} do not fit {rank} spatial dimensions", node=ctx.label)
    return values
