"""What is measured: zoo models by element type and batch, and single kernels, each under a name of its own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpu.kernels import KERNELS

HEADLINE = ("resnet50", "bert", "gpt2", "mobilenet_v2", "vit_b16", "swin_t", "llama70b_decode", "lstm")
OTHERS = ("inception_v3", "shufflenet_v2", "resnet3d_18", "dcgan", "nafnet", "restormer", "nerf", "mobilevit", "conformer", "llama_lm",
          "gru", "seq2seq", "branch", "llama70b_prefill")
BATCHED = (("resnet50", 128), ("bert", 64))


@dataclass(frozen=True)
class Case:
    """A model (with batch and element type) or a kernel."""

    model: str = ""
    batch: int = 1
    dtype: str = "f16"
    kernel: str = ""

    @property
    def name(self) -> str:
        return self.kernel or f"{self.model}.b{self.batch}.{self.dtype}"

    @property
    def group(self) -> str:
        if self.kernel:
            return "kernels"
        return "headline models" if (self.batch, self.dtype) == (1, "f16") and self.model in HEADLINE else "models"

    @property
    def tolerance(self) -> float:
        """The largest error that counts as right, as a fraction of the output's largest value."""
        return 1e-3 if self.dtype == "f32" else 2e-2


def parse(name: str) -> Case:
    """The case of that name. Raises ValueError."""
    if name in KERNELS:
        return Case(kernel=name, dtype=KERNELS[name].dtype)
    model, _, rest = name.partition(".b")
    batch, _, dtype = rest.partition(".")
    if not batch.isdigit() or dtype not in ("f16", "f32"):
        raise ValueError(f"no case is called {name!r}; a model is written like bert.b1.f16, and kernels are {', '.join(KERNELS)}")
    return Case(model, int(batch), dtype)


def models(names: Iterable[str]) -> list[Case]:
    """The cases of these models, in f16 and f32 at batch 1 and in f16 at the larger batch; `all` is every model. The headline first."""
    chosen = [m for name in names for m in ((*HEADLINE, *OTHERS) if name == "all" else HEADLINE if name == "headline" else (name,))]
    plain = list(dict.fromkeys(m for m in chosen if "." not in m))
    batched = [Case(model, batch, "f16") for model, batch in BATCHED if model in plain]
    named = [parse(m) for m in chosen if "." in m]
    return [*(Case(m) for m in plain), *batched, *(Case(m, dtype="f32") for m in plain), *named]


def kernels(prefixes: Sequence[str]) -> list[Case]:
    """The kernels whose names begin with one of these; `all` is every kernel but the tiny ones, which are for trying this out."""
    return [Case(kernel=name, dtype=kernel.dtype) for name, kernel in KERNELS.items()
            if any(name.startswith(p) or (p == "all" and not name.startswith("tiny")) for p in prefixes)]
