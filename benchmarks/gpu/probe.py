"""What the device can do, measured now: memory rates and the library's best matrix products. Prints one JSON object."""

import json
import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch

REPEAT = 20
GIGABYTE = 1 << 30


def seconds(call: Callable[[], Any]) -> float:
    """Median time of a call on the device."""
    for _ in range(3):
        call()
    times = []
    for _ in range(REPEAT):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def matmul(dtype: torch.dtype, n: int) -> float:
    """Floating-point operations per second."""
    a, b = (torch.randn(n, n, device="cuda", dtype=dtype) for _ in range(2))
    return 2 * n**3 / seconds(lambda: a @ b)


def driver() -> str:
    """The driver's version, as the management library gives it."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except Exception:  # it is for the record only, and there are many ways not to have it
        return "unknown"


def main() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    properties = torch.cuda.get_device_properties(0)
    source = torch.randint(0, 1 << 20, (GIGABYTE // 4,), dtype=torch.int32, device="cuda")
    target = torch.empty_like(source)
    facts = {
        "gpu": properties.name, "sms": properties.multi_processor_count, "l2": properties.L2_cache_size, "memory": properties.total_memory,
        "torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "driver": driver(),
        "copy": 2 * GIGABYTE / seconds(lambda: target.copy_(source)), "read": GIGABYTE / seconds(lambda: torch.amax(source)),
        "f16": max(matmul(torch.float16, n) for n in (4096, 8192)), "f32": max(matmul(torch.float32, n) for n in (4096, 8192)),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    sys.exit(main())
