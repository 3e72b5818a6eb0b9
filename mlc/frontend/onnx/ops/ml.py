"""Converters of ai.onnx.ml: scaling, encoding, linear models and tree ensembles, on numbers. Strings are refused where they come in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from mlc.dialects import graph
from mlc.dtypes import F32, F64, I64, DType
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import apply, cast, cut, dtype_of, reshape, scalar, shape_of
from mlc.frontend.onnx.registry import converter
from mlc.ir.mlir import ir

ML = "ai.onnx.ml"
MODES = {"BRANCH_LEQ": 0, "BRANCH_LT": 1, "BRANCH_GTE": 2, "BRANCH_GT": 3, "BRANCH_EQ": 4, "BRANCH_NEQ": 5, "BRANCH_MEMBER": 6}
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


# Element by element


@converter("Binarizer", domain=ML)
def binarizer(ctx: NodeContext) -> Sequence[Any]:
    x = ctx.ir(0)
    return [cast(graph.elementwise("lt", scalar(ctx.attr("threshold", 0.0), dtype_of(x)), x), dtype_of(x))]


@converter("Scaler", domain=ML)
def scaler(ctx: NodeContext) -> Sequence[Any]:
    offset, scale = (_numbers(ctx, name, F32) for name in ("offset", "scale"))
    x = cast(ctx.ir(0), F32)
    x = x if offset is None else graph.elementwise("sub", x, ctx.const(offset))
    return [x if scale is None else graph.elementwise("mul", x, ctx.const(scale))]


@converter("Imputer", domain=ML)
def imputer(ctx: NodeContext) -> Sequence[Any]:
    x = ctx.ir(0)
    dtype = dtype_of(x)
    floats, ints = _numbers(ctx, "imputed_value_floats", dtype), _numbers(ctx, "imputed_value_int64s", dtype)
    replaced = ctx.attr("replaced_value_float", 0.0), ctx.attr("replaced_value_int64", 0)
    values, old = (floats, replaced[0]) if floats is not None else (ints, replaced[1])
    if values is None:
        raise ModelError("has no values to impute", node=ctx.label)
    gone = graph.elementwise("is_nan", x) if isinstance(old, float) and np.isnan(old) else apply("eq", x, old)
    return [graph.elementwise("where", gone, ctx.const(values), x)]


@converter("Normalizer", domain=ML)
def normalizer(ctx: NodeContext) -> Sequence[Any]:
    x = cast(ctx.ir(0), F32)
    norm = ctx.attr("norm", "MAX")
    if norm not in ("MAX", "L1", "L2"):
        raise ModelError(f"norm is {norm!r}, expected MAX, L1 or L2", node=ctx.label)
    size = graph.reduce(graph.elementwise("abs", x) if norm == "MAX" else x, kind=norm.lower(), axes=[len(shape_of(x)) - 1], keepdims=True)
    return [graph.elementwise("div", x, apply("max", size, 1e-30))]


# Classes of values


@converter("LabelEncoder", domain=ML)
def label_encoder(ctx: NodeContext) -> Sequence[Any]:
    if any(ctx.has_attr(name) for name in ("keys_strings", "values_strings", "classes_strings")):
        raise ctx.unsupported("labels that are strings are not supported")
    x = ctx.ir(0)
    keys, values, default = None, None, None
    for name, dtype, fallback in (("floats", F32, -0.0), ("int64s", I64, -1)):
        keys = keys if keys is not None else _numbers(ctx, f"keys_{name}", dtype)
        found = _numbers(ctx, f"values_{name}", dtype)
        if found is not None:
            values, default = found, np.array(ctx.attr(f"default_{name.removesuffix('s')}", fallback), dtype.numpy)
    keys = ctx.attr("keys_tensor", None) if keys is None else keys
    if values is None:
        values = ctx.attr("values_tensor", None)
        default = ctx.attr("default_tensor", None)
    ctx.ignore("default_string", "default_float", "default_int64", "default_tensor")
    if keys is None or values is None or len(keys) != len(values):
        raise ModelError("needs as many keys as values", node=ctx.label)
    if default is None:
        default = np.array(-1 if values.dtype.kind in "iu" else -0.0, values.dtype)
    # The first of equal keys counts; graph.find gives the last.
    table = np.concatenate([values[::-1], np.reshape(default, [1]).astype(values.dtype)])
    return [graph.gather(ctx.const(table), graph.find(x, ctx.const(np.ascontiguousarray(keys[::-1]))), axis=0)]


@converter("OneHotEncoder", domain=ML)
def one_hot_encoder(ctx: NodeContext) -> Sequence[Any]:
    if ctx.has_attr("cats_strings"):
        raise ctx.unsupported("categories that are strings are not supported")
    ctx.ignore("zeros")  # 0 makes an unknown category an error, which is a check at run time and no result
    x = ctx.ir(0)
    classes = _numbers(ctx, "cats_int64s", I64)
    if classes is None:
        raise ModelError("has no categories", node=ctx.label)
    return [cast(graph.elementwise("eq", reshape(cast(x, I64), [*shape_of(x), 1]), ctx.const(classes)), F32)]


@converter("FeatureVectorizer", domain=ML)
def feature_vectorizer(ctx: NodeContext) -> Sequence[Any]:
    wanted, parts = ctx.attr("inputdimensions", None), []
    for i, x in enumerate(ctx.irs()):
        rows, columns = (1, shape_of(x)[0]) if len(shape_of(x)) == 1 else (shape_of(x)[0], prod(shape_of(x)[1:]))
        x = cast(reshape(x, [rows, columns]), F32)
        size = wanted[i] if wanted else shape_of(x)[1]
        if size > shape_of(x)[1]:
            x = graph.pad(x, low=[0, 0], high=[0, size - shape_of(x)[1]])
        parts.append(cut(x, 1, 0, size))
    return [parts[0] if len(parts) == 1 else graph.concat(*parts, axis=1)]


# Linear models


@converter("LinearRegressor", domain=ML)
def linear_regressor(ctx: NodeContext) -> Sequence[Any]:
    return [_transformed(ctx, _linear(ctx, ctx.attr("targets", 1)))]


@converter("LinearClassifier", domain=ML)
def linear_classifier(ctx: NodeContext) -> Sequence[Any]:
    ctx.ignore("multi_class")
    labels = _labels(ctx, "classlabels_ints")
    x = ctx.ir(0)
    scores = _linear(ctx, len(ctx.attr("coefficients")) // shape_of(x)[-1])
    count, transform = shape_of(scores)[1], ctx.attr("post_transform", "NONE")
    if count == 1 and len(labels) == 2:
        scores, count = graph.concat(graph.elementwise("neg", scores), scores, axis=1), 2
    scores = _transformed(ctx, scores)
    if count > 1:
        return [_best(ctx, scores, labels), scores]
    yes = graph.elementwise("le", scalar(0.0 if transform == "NONE" else 0.5, F32), reshape(scores, [shape_of(scores)[0]]))
    return [graph.elementwise("where", yes, scalar(labels[0] if labels else 1, I64), scalar(0, I64)), scores]


def _linear(ctx: NodeContext, targets: int) -> ir.Value:
    x = cast(ctx.ir(0), F32)
    x = reshape(x, [1, *shape_of(x)]) if len(shape_of(x)) == 1 else x
    weights, bias = _numbers(ctx, "coefficients", F32), _numbers(ctx, "intercepts", F32)
    if weights is None or len(weights) != targets * shape_of(x)[1]:
        raise ModelError(f"needs {targets} x {shape_of(x)[1]} coefficients", node=ctx.label)
    scores = graph.matmul(x, ctx.const(weights.reshape(targets, -1)), transpose_b=True)
    return scores if bias is None else graph.elementwise("add", scores, ctx.const(bias))


def _labels(ctx: NodeContext, name: str) -> list[int]:
    if ctx.has_attr("classlabels_strings") and ctx.wants(0):
        raise ctx.unsupported("class labels that are strings are not supported")
    ctx.ignore("classlabels_strings")
    return [int(v) for v in ctx.attr(name, None) or []]


def _best(ctx: NodeContext, scores: ir.Value, labels: Sequence[int]) -> ir.Value:
    """The label of each row's greatest score."""
    best = graph.arg(scores, kind="max", axis=1)
    return graph.gather(ctx.const(np.array(labels, np.int64)), best, axis=0) if labels else best


def _transformed(ctx: NodeContext, scores: ir.Value, transform: str | None = None) -> ir.Value:
    transform = ctx.attr("post_transform", "NONE") if transform is None else transform
    match transform:
        case "NONE":
            return scores
        case "SOFTMAX":
            return graph.softmax(scores, axis=1)
        case "LOGISTIC":
            return graph.elementwise("sigmoid", scores)
        case "SOFTMAX_ZERO":  # a softmax in which zeros stay zeros
            top = graph.reduce(scores, kind="max", axes=[1], keepdims=True)
            zero = apply("lt", graph.elementwise("abs", scores), 1e-7)
            small = graph.elementwise("mul", scores, graph.elementwise("exp", graph.elementwise("neg", top)))
            powers = graph.elementwise("where", zero, small, graph.elementwise("exp", graph.elementwise("sub", scores, top)))
            total = graph.reduce(powers, kind="sum", axes=[1], keepdims=True)
            return graph.elementwise("where", apply("eq", total, 0.0), scalar(0.5, F32), graph.elementwise("div", powers, total))
        case "PROBIT":
            return _probit(scores)
    raise ModelError(f"post_transform is {transform!r}, expected one of {', '.join(TRANSFORMS)}", node=ctx.label)


def _probit(p: ir.Value) -> ir.Value:
    """sqrt(2) * erfinv(2p - 1), by Winitzki's formula, which is what other runtimes compute too."""
    x = apply("sub", apply("mul", p, 2.0), 1.0)
    log = graph.elementwise("log", apply("mul", apply("sub", 1.0, x), apply("add", x, 1.0)))
    v = apply("add", apply("mul", log, 0.5), 2.0 / (np.pi * 0.147))
    inner = graph.elementwise("sqrt", graph.elementwise("sub", graph.elementwise("mul", v, v), apply("mul", log, 1 / 0.147)))
    size = graph.elementwise("sqrt", graph.elementwise("sub", inner, v))
    return apply("mul", graph.elementwise("mul", graph.elementwise("sign", x), size), 1.41421356)


# Trees


@dataclass(frozen=True)
class Forest:
    """Trees as graph.tree_leaves takes them. weights: a number per leaf and target, `missing` where a leaf says nothing about a target."""

    feature: np.ndarray
    mode: np.ndarray
    split: np.ndarray
    yes: np.ndarray
    no: np.ndarray
    missing: np.ndarray
    roots: np.ndarray
    leaf: np.ndarray  # of each pair (leaf, target, weight)
    target: np.ndarray
    weight: np.ndarray
    leaves: int
    sets: tuple[tuple[float, ...], ...] = ()  # of the nodes of mode 6, in order


def _scores(ctx: NodeContext, forest: Forest, targets: int, aggregate: str) -> ir.Value:
    """[rows, targets]: each tree's leaf, aggregated."""
    x = ctx.ir(0)
    x = x if dtype_of(x) in (F32, F64) else cast(x, F32)
    x = reshape(x, [1, *shape_of(x)]) if len(shape_of(x)) == 1 else x
    dtype = dtype_of(x)
    if aggregate not in AGGREGATES:
        raise ModelError(f"aggregate_function is {aggregate!r}, expected one of {', '.join(AGGREGATES)}", node=ctx.label)
    empty = {"MIN": np.finfo(dtype.numpy).max, "MAX": np.finfo(dtype.numpy).min}.get(aggregate, 0)
    table = np.full((forest.leaves, targets), empty, dtype.numpy)
    join = {"MIN": np.minimum, "MAX": np.maximum}.get(aggregate, np.add)
    join.at(table, (forest.leaf, forest.target), forest.weight.astype(dtype.numpy))
    ends = np.cumsum([0, *map(len, forest.sets)])
    span = np.zeros((len(forest.feature), 2), np.int64)
    span[forest.mode == MODES["BRANCH_MEMBER"]] = np.stack([ends[:-1], ends[1:]], 1)
    members = np.array([v for s in forest.sets for v in s] or [0], dtype.numpy)
    split = forest.split.astype(dtype.numpy)
    tables = [forest.feature, forest.mode, split, forest.yes, forest.no, forest.missing, span, members, forest.roots]
    leaves = graph.tree_leaves(x, *[ctx.const(t) for t in tables])
    found = graph.gather(ctx.const(table), leaves, axis=0)
    kind = {"AVERAGE": "sum"}.get(aggregate, aggregate.lower())
    result = graph.reduce(found, kind=kind, axes=[1])
    if empty:  # no leaf spoke about this target: 0, as ONNX Runtime has it
        result = graph.elementwise("where", apply("eq", result, float(empty)), scalar(0.0, dtype), result)
    return apply("div", result, float(len(forest.roots))) if aggregate == "AVERAGE" else result


@converter("TreeEnsemble", domain=ML, since=5)
def tree_ensemble(ctx: NodeContext) -> Sequence[Any]:
    ctx.ignore("nodes_hitrates")
    mode = np.asarray(ctx.attr("nodes_modes")).astype(np.uint8)
    n = len(mode)

    def branch(name: str) -> np.ndarray:
        to, is_leaf = (_index(ctx.attr(f"nodes_{name}{what}")) for what in ("nodeids", "leafs"))
        return np.where(is_leaf != 0, to + n, to)

    targets = _index(ctx.attr("leaf_targetids"))
    missing = ctx.attr("nodes_missing_value_tracks_true", None)
    forest = Forest(feature=_index(ctx.attr("nodes_featureids")), mode=mode, split=np.asarray(ctx.attr("nodes_splits")), yes=branch("true"),
                    no=branch("false"), missing=np.array(missing or [0] * n, bool), roots=_index(ctx.attr("tree_roots")),
                    leaf=np.arange(len(targets)), target=targets, weight=np.asarray(ctx.attr("leaf_weights")), leaves=len(targets),
                    sets=_sets(ctx.attr("membership_values", None)))
    if len(forest.sets) != int((mode == MODES["BRANCH_MEMBER"]).sum()):
        raise ModelError(f"has {len(forest.sets)} sets of members for {int((mode == 6).sum())} nodes that ask for one", node=ctx.label)
    scores = _scores(ctx, forest, ctx.attr("n_targets", 1), AGGREGATES[ctx.attr("aggregate_function", 1)])
    return [_transformed(ctx, scores, TRANSFORMS[ctx.attr("post_transform", 0)])]


@converter("TreeEnsembleRegressor", domain=ML)
def tree_ensemble_regressor(ctx: NodeContext) -> Sequence[Any]:
    targets = ctx.attr("n_targets", None) or 1
    scores = _scores(ctx, _old_forest(ctx, "target"), targets, ctx.attr("aggregate_function", "SUM"))
    return [_transformed(ctx, _based(ctx, scores))]


@converter("TreeEnsembleClassifier", domain=ML)
def tree_ensemble_classifier(ctx: NodeContext) -> Sequence[Any]:
    labels, forest = _labels(ctx, "classlabels_int64s"), _old_forest(ctx, "class")
    if len(labels) == 2 and len(set(forest.target.tolist())) == 1:
        return _two_classes(ctx, labels, forest)
    scores = cast(_scores(ctx, forest, max(len(labels), int(forest.target.max(initial=0)) + 1), "SUM"), F32)
    scores = _based(ctx, scores)
    best = _best(ctx, scores, labels)
    return [best, _transformed(ctx, scores)]


def _two_classes(ctx: NodeContext, labels: Sequence[int], forest: Forest) -> list[ir.Value]:
    """All leaves speak about one class: a probability if no weight is negative, else a margin."""
    forest = replace(forest, target=np.zeros_like(forest.target))
    score = _based(ctx, cast(_scores(ctx, forest, 1, "SUM"), F32))
    positive, transform = bool((forest.weight >= 0).all()), ctx.attr("post_transform", "NONE")
    yes = apply("lt", scalar(0.5 if positive else 0.0, F32), reshape(score, [shape_of(score)[0]]))
    label = graph.elementwise("where", yes, scalar(labels[1], I64), scalar(labels[0], I64))
    other = apply("sub", 1.0, score) if positive else graph.elementwise("neg", score)
    both = graph.concat(other, score, axis=1)
    return [label, graph.elementwise("sigmoid", both) if transform == "LOGISTIC" and not positive else both]


def _old_forest(ctx: NodeContext, what: str) -> Forest:
    """The forest of the ops before opset 5, where leaves are nodes and everything is named by (tree, node)."""
    ctx.ignore("nodes_hitrates", "nodes_hitrates_as_tensor")
    modes, splits = ctx.attr("nodes_modes"), _values(ctx, "nodes_values")
    trees, ids = ctx.attr("nodes_treeids"), ctx.attr("nodes_nodeids")
    is_leaf = np.array([m == "LEAF" for m in modes])
    unknown = sorted({*modes} - {*MODES, "LEAF"} | {m for m in modes if m == "BRANCH_MEMBER"})
    if unknown or splits is None:
        raise ModelError(f"has nodes of mode {', '.join(unknown)}" if unknown else "has no nodes_values", node=ctx.label)
    inner, leaves = np.flatnonzero(~is_leaf), np.flatnonzero(is_leaf)
    # With no inner node (every tree is a leaf) one that nobody reaches stands in, since tables of no elements say nothing.
    count = max(len(inner), 1)
    number = {int(i): k for k, i in enumerate(inner)} | {int(i): count + k for k, i in enumerate(leaves)}
    place = {pair: number[i] for i, pair in enumerate(zip(trees, ids, strict=True))}

    def column(values: Any, dtype: Any) -> np.ndarray:
        return np.asarray(values)[inner].astype(dtype) if len(inner) else np.zeros(1, dtype)

    def branch(name: str) -> np.ndarray:
        to = ctx.attr(name)
        return np.array([place[trees[i], to[i]] for i in inner] or [0], np.int64)

    missing = ctx.attr("nodes_missing_value_tracks_true", None)
    roots = [next(number[i] for i, t in enumerate(trees) if t == tree) for tree in sorted(set(trees))]
    pairs = list(zip(ctx.attr(f"{what}_treeids"), ctx.attr(f"{what}_nodeids"), strict=True))
    return Forest(feature=column(ctx.attr("nodes_featureids"), np.int64), mode=column([MODES.get(m, 0) for m in modes], np.uint8),
                  split=column(splits, np.float64), yes=branch("nodes_truenodeids"), no=branch("nodes_falsenodeids"),
                  missing=column(missing or [0] * len(modes), bool), roots=_index(roots), leaf=_index([place[p] - count for p in pairs]),
                  target=_index(ctx.attr(f"{what}_ids")), weight=np.asarray(_values(ctx, f"{what}_weights")), leaves=len(leaves))


def _based(ctx: NodeContext, scores: ir.Value) -> ir.Value:
    base = _values(ctx, "base_values")
    if base is None or not len(base):
        return scores
    if len(base) not in (1, shape_of(scores)[1]):
        raise ctx.unsupported(f"{len(base)} base values for {shape_of(scores)[1]} scores are not supported")
    return graph.elementwise("add", scores, ctx.const(np.asarray(base).astype(dtype_of(scores).numpy)))


def _values(ctx: NodeContext, name: str) -> np.ndarray | None:
    """Floats given as a list or, for doubles, as a tensor."""
    listed, tensor = ctx.attr(name, None), ctx.attr(f"{name}_as_tensor", None)
    return tensor if tensor is not None else None if listed is None else np.array(listed, np.float32)


def _sets(members: np.ndarray | None) -> tuple[tuple[float, ...], ...]:
    """Members of one node after the other, a NaN behind each node's."""
    found: list[tuple[float, ...]] = []
    current: list[float] = []
    for v in [] if members is None else members.reshape(-1).tolist():
        if v != v:
            found.append(tuple(current))
            current = []
        else:
            current.append(v)
    return tuple(found)


def _index(values: Any) -> np.ndarray:
    return np.array(values, np.int64)


def _numbers(ctx: NodeContext, name: str, dtype: DType) -> np.ndarray | None:
    """A list attribute as a vector; None where it is absent or empty."""
    values = ctx.attr(name, None)
    return np.array(values).astype(dtype.numpy) if values else None

