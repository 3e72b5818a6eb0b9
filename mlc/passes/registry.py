"""The table of Python passes and named pipelines, and the base class whose fields are a pass's options.

To add a pass: a frozen dataclass that derives from `Pass`, and one line in `PASSES`. To add a named pipeline: one line in `PIPELINES`.
Modules are imported when a pass is used; `describe` reads the source instead, so `mlc-opt --help` and `--list-passes` import no MLIR.
"""

import ast
import importlib
import typing
from abc import ABC, abstractmethod
from dataclasses import MISSING, Field, dataclass, fields
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mlc.errors import CompilerError, PassError

if TYPE_CHECKING:  # --help needs none of them
    from mlc.ir.mlir import ir
    from mlc.target import Target
    from mlc.weights import WeightStore

PASSES: dict[str, str] = {
    "mlc-dce": "mlc.passes.cleanup:Dce",
    "mlc-cse": "mlc.passes.cleanup:Cse",
    "fold-constants": "mlc.passes.graph.fold:FoldConstants",
    "simplify": "mlc.passes.graph.simplify:Simplify",
    "recognise": "mlc.passes.graph.recognise:Recognise",
    "fold-scales": "mlc.passes.graph.fold_scales:FoldScales",
    "sink-transposes": "mlc.passes.graph.sink:SinkTransposes",
    "merge-products": "mlc.passes.graph.merge_products:MergeProducts",
    "dequantized-products": "mlc.passes.graph.dequantized_products:DequantizedProducts",
    "integer-products": "mlc.passes.graph.integer_products:IntegerProducts",
    "choose-layout": "mlc.passes.graph.choose_layout:ChooseLayout",
    "lower-graph-to-tile": "mlc.passes.lower_graph_to_tile:LowerGraphToTile",
    "narrow-factors": "mlc.passes.tile.narrow_factors:NarrowFactors",
    "align-factors": "mlc.passes.tile.align_factors:AlignFactors",
    "window-rows": "mlc.passes.tile.window_rows:WindowRows",
    "split-reductions": "mlc.passes.tile.split_reductions:SplitReductions",
    "connect": "mlc.passes.tile.connect:Connect",
    "choose-scopes": "mlc.passes.tile.choose_scopes:ChooseScopes",
    "choose-tiles": "mlc.passes.tile.choose_tiles:ChooseTiles",
    "fold-views": "mlc.passes.tile.fold_views:FoldViews",
    "keep-wide": "mlc.passes.tile.keep_wide:KeepWide",
    "hoist": "mlc.passes.tile.hoist:Hoist",
    "pack-weights": "mlc.passes.tile.pack_weights:PackWeights",
    "lower-tile-to-task": "mlc.passes.lower_tile_to_task:LowerTileToTask",
    "fuse-loops": "mlc.passes.task.fuse_loops:FuseLoops",
    "join-foreaches": "mlc.passes.task.join_foreaches:JoinForeaches",
    "choose-mapping": "mlc.passes.choose_mapping:ChooseMapping",
    "plan-memory": "mlc.passes.task.plan_memory:PlanMemory",
    "lower-task-to-gpu": "mlc.passes.lower_task_to_gpu:LowerTaskToGpu",
    "lower-task-to-scf": "mlc.passes.lower_task_to_scf:LowerTaskToScf",
    "allow-contraction": "mlc.passes.allow_contraction:AllowContraction",
    "expand-math": "mlc.passes.expand_math:ExpandMath",
}

PIPELINES: dict[str, str] = {
    "graph-pipeline": "fold-constants,mlc-dce,mlc-cse,simplify,sink-transposes,recognise,fold-scales,choose-layout,simplify,"
                      "dequantized-products,integer-products,merge-products,mlc-cse,mlc-dce",
    "tile-pipeline": "fold-views,mlc-dce,hoist,narrow-factors,window-rows,split-reductions,connect,align-factors,choose-scopes,"
                     "choose-tiles,pack-weights,hoist,choose-tiles,keep-wide,mlc-dce",
    "task-pipeline": "lower-tile-to-task,join-foreaches,fuse-loops,plan-memory,choose-mapping",
    "gpu-kernel-pipeline": "lower-task-to-gpu,allow-contraction,expand-math",
    "cpu-kernel-pipeline": "lower-task-to-scf,expand-math",
    "cpu-pipeline": "graph-pipeline,lower-graph-to-tile,mlc-dce,mlc-cse,tile-pipeline,task-pipeline,cpu-kernel-pipeline",
}

OPTION_TYPES = (int, bool, str, float, tuple[int, ...])


@dataclass(frozen=True)
class PassContext:
    """What a pass may know besides the IR: the target's facts, and the weights that `graph.weight` names."""

    target: "Target | None" = None
    weights: "WeightStore | None" = None

    def need_target(self) -> "Target":
        """The target, for passes that cannot do without."""
        if self.target is None:
            raise PassError("this pass needs a target", hint="mlc-opt: add --target=cpu")
        return self.target

    def need_weights(self) -> "WeightStore":
        """The weights, for passes that cannot do without."""
        if self.weights is None:
            raise PassError("this pass needs the model's weights, which a .mlir file does not hold")
        return self.weights


@dataclass(frozen=True)
class Pass(ABC):
    """A rewrite of the whole module. Subclasses are frozen dataclasses; fields are options (int, bool, str, float, tuple[int, ...]).

    Contract: valid IR in, valid IR out. Refuse input with `DiagnosticError.at(op, ...)` or another MlcError; any other exception is
    reported as a bug of the pass. After a failure the module is lost.
    """

    name: ClassVar[str]
    anchor: ClassVar[str] = "builtin.module"

    @abstractmethod
    def run(self, module: "ir.Module", ctx: PassContext) -> None:
        """Rewrites the module in place."""


@dataclass(frozen=True)
class OpPass(Pass):
    """A pass on every op named `anchor` that the pipeline nests it under: `func.func(my-pass)`. Ops must not look outside themselves."""

    def run(self, module: "ir.Module", ctx: PassContext) -> None:
        raise CompilerError(f"pass '{self.name}' runs on '{self.anchor}' ops, not on the module")

    @abstractmethod
    def run_on(self, op: Any, ctx: PassContext) -> None:
        """Rewrites one op (an `ir.OpView`) in place."""


def register_pass(cls: type[Pass]) -> type[Pass]:
    """Adds a class under its `name`, without an entry in `PASSES`: for plug-ins and tests. Usable as a decorator."""
    if cls.name in PASSES and _LOADED.get(cls.name) is not cls:
        raise PassError(f"two passes are named '{cls.name}'")
    PASSES[cls.name], _LOADED[cls.name] = f"{cls.__module__}:{cls.__qualname__}", cls
    return cls


def pass_class(name: str) -> type[Pass]:
    """Imports and checks the class of a registered pass."""
    cls = _LOADED.get(name)
    if cls is None:
        module, _, attribute = PASSES[name].partition(":")
        cls = getattr(importlib.import_module(module), attribute)
        if cls.name != name:
            raise CompilerError(f"pass '{name}' is registered as {PASSES[name]}, which calls itself '{cls.name}'")
        _LOADED[name] = cls
    return cls


_LOADED: dict[str, type[Pass]] = {}


@dataclass(frozen=True)
class Option:
    """One option of a pass: spelled with dashes, typed by its field."""

    name: str
    type: Any
    required: bool


def options_of(cls: type[Pass]) -> dict[str, Option]:
    """Options by spelled name; a field of another type is an error of the pass's author."""
    types = typing.get_type_hints(cls)
    found: dict[str, Option] = {}
    for field in fields(cls):
        if hasattr(OpPass, field.name):
            raise CompilerError(f"option '{field.name}' of pass '{cls.name}' hides an attribute of every pass; call it otherwise")
        if types[field.name] not in OPTION_TYPES:
            raise CompilerError(f"option '{field.name}' of pass '{cls.name}' has type {types[field.name]}; use int, bool, str, float or "
                                "tuple[int, ...]")
        found[_spelled(field.name)] = Option(_spelled(field.name), types[field.name], _required(field))
    return found


def make_pass(name: str, options: dict[str, str]) -> Pass:
    """An instance from option texts. Raises PassError for an unknown, missing or ill-typed option."""
    cls = pass_class(name)
    known = options_of(cls)
    values: dict[str, Any] = {}
    for key, text in options.items():
        option = known.get(_spelled(key))
        if option is None:
            listed = ", ".join(known) or "none"
            raise PassError(f"pass '{name}' has no option '{key}'", hint=suggest(_spelled(key), list(known)) or f"its options: {listed}")
        values[option.name.replace("-", "_")] = _convert(name, option, text)
    missing = [o.name for o in known.values() if o.required and o.name.replace("-", "_") not in values]
    if missing:
        raise PassError(f"pass '{name}' needs option '{missing[0]}'", hint=f"write {name}{{{missing[0]}=...}}")
    try:
        return cls(**values)
    except ValueError as error:  # the class's own __post_init__
        raise PassError(f"pass '{name}': {error}") from None


def text_of(instance: Pass) -> str:
    """The pass as pipeline text: its name, and the options that differ from their defaults."""
    changed = [f"{_spelled(f.name)}={_print(value)}" for f in fields(instance) if (value := getattr(instance, f.name)) != f.default]
    return f"{instance.name}{{{' '.join(changed)}}}" if changed else instance.name


def suggest(name: str, known: list[str]) -> str | None:
    """`did you mean 'x'?`, or None when nothing known is near."""
    near = get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else None


@dataclass(frozen=True)
class Description:
    """What `--list-passes` shows of a pass."""

    name: str
    summary: str
    options: tuple[str, ...]


def describe(name: str) -> Description:
    """Summary and options (`tiles: tuple[int, ...] = (4, 8)`) of a pass, read from its source without importing it."""
    module, _, attribute = PASSES[name].partition(":")
    spec = None if name in _LOADED else find_spec(module)
    if spec is None or spec.origin is None:
        cls = pass_class(name)
        options = tuple(f"{_spelled(f.name)}: {_type_name(f.type)}{'' if _required(f) else f' = {f.default!r}'}" for f in fields(cls))
        return Description(name, (cls.__doc__ or "").strip().partition("\n")[0], options)
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == attribute:
            stated = [s for s in node.body if isinstance(s, ast.AnnAssign) and "ClassVar" not in ast.unparse(s.annotation)]
            options = tuple(_spelled(ast.unparse(s.target)) + ": " + ast.unparse(s.annotation)
                            + ("" if s.value is None else f" = {ast.unparse(s.value)}") for s in stated)
            return Description(name, (ast.get_docstring(node) or "").partition("\n")[0], options)
    raise CompilerError(f"pass '{name}' is registered as {PASSES[name]}, but {spec.origin} has no class {attribute}")


def _spelled(field: str) -> str:
    return field.replace("_", "-")


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _type_name(type_: Any) -> str:
    return type_.__name__ if isinstance(type_, type) and not typing.get_args(type_) else str(type_)


def _print(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(map(str, value))
        case str() if not value or any(c in " {}(),'\"=" for c in value):
            opening, closing = next(q for q in ('""', "''", "{}") if not set(q) & set(value) or q == "{}")
            return opening + value + closing
    return str(value)


def _convert(name: str, option: Option, text: str) -> Any:
    try:
        if option.type is bool:
            return {"true": True, "1": True, "": True, "false": False, "0": False}[text]
        if option.type == tuple[int, ...]:
            return tuple(int(part) for part in text.strip("[]").split(",") if part.strip())
        return option.type(text)
    except (KeyError, ValueError):
        raise PassError(f"option '{option.name}' of pass '{name}' takes {_type_name(option.type)}, found '{text}'") from None
