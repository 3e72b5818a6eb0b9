"""One artifact for several architectures: their plans side by side in plan.json, equal weights once."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

import numpy as np

from mlc.artifact import Artifact, plan_tensors
from mlc.errors import ArtifactError, CompilerError

_COMMON = ("inputs", "outputs", "signature")


def join(artifacts: Sequence[Artifact]) -> Artifact:
    """The artifacts of one model, each for one architecture, as one: `rocm:gfx90a,gfx942`.

    Its plan has what is common, and `variants`: architecture -> what is its own (arena_bytes, kernels, steps, ..., and `weights`: which of
    the plan's weights its steps mean, in the order that they count them).
    """
    if len(artifacts) == 1:
        return artifacts[0]
    variants: dict[str, dict[str, Any]] = {}
    weights = _Weights()
    for artifact in artifacts:
        plan = artifact.plan
        if any(plan.get(key) != artifacts[0].plan.get(key) for key in _COMMON):
            raise CompilerError(f"the inputs or outputs for {plan['target']} are not those for {artifacts[0].target}")
        own = {key: value for key, value in plan.items() if key not in (*_COMMON, "weights")}
        own["weights"] = [weights.index(entry, array) for entry, array in zip(plan["weights"], artifact.weights, strict=True)]
        variants[_arch(artifact.target)] = own
    common = {key: artifacts[0].plan[key] for key in _COMMON if key in artifacts[0].plan}
    plan = {**common, "target": f"rocm:{','.join(variants)}", "weights": weights.entries, "variants": variants,
            "objects": [name for own in variants.values() for name in own["objects"]]}
    objects = {name: data for artifact in artifacts for name, data in artifact.objects.items()}
    extra = {name: data for artifact in artifacts for name, data in artifact.extra.items()}
    named = [(entry["name"], array) for entry, array in zip(weights.entries, weights.arrays, strict=True)]
    return Artifact.build(plan=plan, objects=objects, weights=named, extra=extra)


def _arch(target: str) -> str:
    return target.partition(":")[2].partition(",")[0]


@dataclass
class _Weights:
    """The weights of all variants, equal ones once."""

    entries: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    arrays: list[np.ndarray] = field(default_factory=list[np.ndarray])
    known: dict[tuple[str, str, bytes], int] = field(default_factory=dict[tuple[str, str, bytes], int])

    def index(self, entry: Mapping[str, Any], array: np.ndarray) -> int:
        """Where a weight is: an equal one's place, else a new one at the end, under a name that is free."""
        content = hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).digest()
        key = entry["dtype"], str(entry["shape"]), content
        if key not in self.known:
            names = {e["name"] for e in self.entries}
            name = next(n for n in chain([entry["name"]], (f"{entry['name']}.{i}" for i in count(1))) if n not in names)
            self.known[key] = len(self.entries)
            self.entries.append({**entry, "name": name})
            self.arrays.append(array)
        return self.known[key]


def architectures(artifact: Artifact) -> tuple[str, ...]:
    """Those it holds code for. Raises ArtifactError if the plan is malformed."""
    variants = artifact.plan.get("variants")
    if variants is None:
        return (_arch(artifact.target),)
    if not isinstance(variants, dict) or not variants or not all(isinstance(own, dict) for own in variants.values()):
        raise ArtifactError(f"plan.json: found variants {str(variants)[:100]}, expected architectures with a plan each")
    return tuple(variants)


def variant(artifact: Artifact, arch: str) -> Artifact:
    """What is for one of its architectures, as an artifact of its own. Raises ArtifactError if the plan is malformed."""
    if "variants" not in artifact.plan:
        return artifact
    own = artifact.plan["variants"][arch]
    indices, weights = own.get("weights"), len(plan_tensors(artifact.plan, "weights"))
    if not isinstance(indices, list) or not all(type(i) is int and 0 <= i < weights for i in indices):
        raise ArtifactError(f"plan.json: the weights of {arch} are {str(indices)[:100]}, expected indices below {weights}")
    plan = {key: value for key, value in artifact.plan.items() if key != "variants"} | own
    plan["weights"] = [artifact.plan["weights"][i] for i in indices]
    return Artifact(artifact.manifest, plan, [artifact.weights[i] for i in indices], artifact.objects, artifact.extra)
