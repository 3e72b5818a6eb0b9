"""Dialects declared in Python: an op class is the whole spec, `verify` holds it.

The provider's own declarative layer (IRDL) binds one type to each variadic operand group, so an op that takes tensors of several types
cannot be declared in it; its verifiers also unwind through C++ frames. Hence our ops are unknown to the C++ side: contexts allow
unregistered dialects, printing and parsing use the generic form, and `verify(module)` (run after parsing and after every pass) checks
MLIR's rules, then ours, and refuses any op that nobody declared.

A class body declares fields by annotation, in order: `Operand`, `Operands` (variadic, at most one), `Result`, `Results` (at most one),
`Region`, and attributes by Python type (`int`, `float`, `bool`, `str`, `list`, `dict`, `ir.Type`), optional when given a default:

    class SoftmaxOp(GraphOp, name="softmax"):
        x: Operand
        axis: int
        log: bool = False
        y: Result

`attribute("task", "map", TaskMap)` makes a plain Python class an attribute, `#task.map<text>`: MLIR keeps the text, the class parses it.
"""

from collections.abc import Sequence
from types import UnionType
from typing import Any, ClassVar, Protocol

from torch_mlir import ir
from torch_mlir._mlir_libs import _mlir

from mlc.errors import MlcError

__all__ = ["OPS", "Dialect", "OpBase", "Operand", "Operands", "Region", "Result", "Results", "VerifyError", "attribute", "operations",
           "to_attr", "to_py", "verify"]


class VerifyError(ValueError):
    """A rule of an op is broken; the text says which, what was found and what was expected."""


class Operand:
    """Field: one operand."""


class Operands:
    """Field: any number of operands, of any types."""


class Result:
    """Field: one result."""


class Results:
    """Field: any number of results, of any types."""


class Region:
    """Field: one region of one block."""


Dialect = ir.Dialect
OPS: dict[str, "type[OpBase]"] = {}
_SPELLED: dict[tuple[str, str], "type[Spelled]"] = {}
_ATTRIBUTES: dict[type, tuple[type, ...]] = {
    ir.Attribute: (ir.Attribute,), ir.Type: (ir.Type,), int: (int,), float: (float, int), bool: (bool,), str: (str,), list: (list,),
    dict: (dict,),
}


def dialect(namespace: str, summary: str) -> type[ir.Dialect]:
    """Declares a dialect namespace."""
    return _mlir.register_dialect(type(namespace.capitalize(), (ir.Dialect,), {"DIALECT_NAMESPACE": namespace, "__doc__": summary}))


class Spelled(Protocol):
    """A value with a text form: `str(value)` writes what `parse` reads (which raises MlcError)."""

    @staticmethod
    def parse(text: str) -> "Spelled": ...


def attribute(namespace: str, mnemonic: str, cls: type[Spelled]) -> None:
    """Declares the attribute `#namespace.mnemonic<text>` with `cls` as its value."""
    _SPELLED[namespace, mnemonic] = cls
    _ATTRIBUTES[cls] = (cls,)


def to_attr(value: object) -> ir.Attribute:
    """A Python value as an attribute: bool, int (i64), float (f64), str, None (unit), types, declared classes, lists and dicts of those."""
    match value:
        case ir.Attribute():
            return value
        case ir.Type():
            return ir.TypeAttr.get(value)
        case bool():
            return ir.BoolAttr.get(value)
        case int():
            return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)
        case float():
            return ir.FloatAttr.get_f64(value)
        case str():
            return ir.StringAttr.get(value)
        case None:
            return ir.UnitAttr.get()
        case dict():
            return ir.DictAttr.get({str(k): to_attr(v) for k, v in value.items()})
        case list() | tuple():
            return ir.ArrayAttr.get([to_attr(v) for v in value])
    if (name := next((name for name, cls in _SPELLED.items() if isinstance(value, cls)), None)) is not None:
        return ir.OpaqueAttr.get(name[0], f"{name[1]}<{value}>".encode(), ir.NoneType.get())
    if hasattr(value, "item"):  # numpy scalars
        return to_attr(value.item())
    raise TypeError(f"no attribute form for {type(value).__name__}: {value!r}")


def to_py(attr: ir.Attribute) -> Any:
    """The Python value of an attribute made by `to_attr`. Raises MlcError if a declared class cannot parse its text."""
    match attr:
        case ir.BoolAttr() | ir.IntegerAttr() | ir.FloatAttr() | ir.StringAttr() | ir.TypeAttr():
            return attr.value
        case ir.UnitAttr():
            return None
        case ir.ArrayAttr():
            return [to_py(a) for a in attr]
        case ir.DictAttr():
            return {named.name: to_py(named.attr) for named in attr}
        case ir.OpaqueAttr():
            mnemonic, _, text = attr.data.decode().partition("<")
            cls = _SPELLED.get((attr.dialect_namespace, mnemonic))
            return attr if cls is None else cls.parse(text.removesuffix(">"))
    return attr


class OpBase(ir.OpView):
    """Base of mlc's ops: accessors for the declared fields, `build`, `py`, and `check(self)` (raise VerifyError) for rules of its own."""

    _ODS_REGIONS = (0, False)
    dialect: ClassVar[Any]
    pure: ClassVar[bool] = True  # no effect but its results: may be removed when unused, merged when equal
    fields: ClassVar[dict[str, Any]] = {}
    defaults: ClassVar[dict[str, Any]] = {}

    @classmethod
    def __init_subclass__(cls, *, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if name is None:
            return
        cls.OPERATION_NAME = f"{cls.dialect.DIALECT_NAMESPACE}.{name}"
        if cls.OPERATION_NAME in OPS:
            raise ValueError(f"two classes for {cls.OPERATION_NAME}")
        cls.fields = {k: _kind(v) for k, v in cls.__annotations__.items() if v is not ClassVar and not k.startswith("_")}
        cls.defaults = {k: cls.__dict__[k] for k in cls.fields if k in cls.__dict__}
        for index, (field, kind) in enumerate(cls.fields.items()):
            setattr(cls, field, property(_accessor(cls, field, kind, index)))
        OPS[cls.OPERATION_NAME] = _mlir.register_operation(cls.dialect)(cls)

    @classmethod
    def count(cls, kind: type) -> int:
        """How many fields of a kind the op declares."""
        return sum(1 for k in cls.fields.values() if k is kind)

    @classmethod
    def build(cls, operands: Sequence[ir.Value], results: Sequence[ir.Type], attrs: dict[str, Any] | None = None) -> Any:
        """Creates the op at the current insertion point; attrs are Python values (see `to_attr`), defaults are left out."""
        attributes = {k: to_attr(v) for k, v in (attrs or {}).items() if not (k in cls.defaults and cls.defaults[k] == v)}
        return ir.Operation.create(cls.OPERATION_NAME, results=list(results), operands=list(operands), attributes=attributes,
                                   regions=cls.count(Region)).opview

    def py(self, name: str, default: Any = None) -> Any:
        """Attribute `name` as a Python value; its declared default, else `default`, when absent."""
        attributes = self.operation.attributes
        return to_py(attributes[name]) if name in attributes else type(self).defaults.get(name, default)

    def check(self) -> None:
        """Rules beyond the declared fields."""


def _kind(annotation: Any) -> Any:
    """The kind of a field: `int | None` (an attribute that may be missing) is an int."""
    return next(t for t in annotation.__args__ if t is not type(None)) if isinstance(annotation, UnionType) else annotation


def _accessor(cls: type[OpBase], field: str, kind: Any, index: int) -> Any:
    before = list(cls.fields.values())[:index]
    after = list(cls.fields.values())[index + 1:]

    def values(single: type, many: type, get: Any) -> Any:
        start = sum(k is single for k in before)
        if kind is single and many in before:
            from_end = sum(k is single for k in after) + 1
            return lambda self: list(get(self))[-from_end]
        if kind is single:
            return lambda self: get(self)[start]
        tail = sum(k is single for k in after)
        return lambda self: list(get(self))[start:len(get(self)) - tail]

    if kind in (Operand, Operands):
        return values(Operand, Operands, lambda self: self.operation.operands)
    if kind in (Result, Results):
        return values(Result, Results, lambda self: self.operation.results)
    if kind is Region:
        position = sum(k is Region for k in before)
        return lambda self: self.operation.regions[position]
    return lambda self: self.py(field)


def _check_fields(op: OpBase) -> None:
    cls, operation = type(op), op.operation
    counts = ("operand", Operand, Operands, len(operation.operands)), ("result", Result, Results, len(operation.results))
    for what, single, many, found in counts:
        least, exact = cls.count(single), cls.count(many) == 0
        if found < least or (exact and found != least):
            raise VerifyError(f"takes {'' if exact else 'at least '}{least} {what}{'s' * (least != 1)}, got {found}")
    if len(operation.regions) != cls.count(Region):
        raise VerifyError(f"has {cls.count(Region)} regions, got {len(operation.regions)}")
    for field, kind in cls.fields.items():
        if kind in (Operand, Operands, Result, Results, Region):
            continue
        try:
            value = op.py(field, _check_fields)
        except MlcError as error:
            raise VerifyError(f"attribute '{field}': {error.message}") from error
        if value is _check_fields:
            raise VerifyError(f"needs attribute '{field}' ({getattr(kind, '__name__', kind)})")
        if value is not None and not (isinstance(value, _ATTRIBUTES[kind]) and (kind is bool or not isinstance(value, bool))):
            raise VerifyError(f"attribute '{field}' must be {kind.__name__}, got {value!r}")
    for name in operation.attributes:
        if name not in cls.fields and "." not in name:
            raise VerifyError(f"has no attribute '{name}'; it has {', '.join(f for f, k in cls.fields.items() if k in _ATTRIBUTES)}")


def operations(op: ir.Operation) -> list[ir.Operation]:
    """Every operation nested in `op`, itself excluded, in order."""
    found: list[ir.Operation] = []
    for region in op.regions:
        for block in region:
            for view in block.operations:
                found.append(view.operation)
                if len(view.operation.regions):
                    found.extend(operations(view.operation))
    return found


def verify(module: ir.Module, allow_unknown: bool = False) -> list[tuple[ir.Location, str]]:
    """Checks MLIR's rules (raises MLIRError), then every op of ours; returns (location, message) of each broken rule."""
    module.operation.verify()
    broken: list[tuple[ir.Location, str]] = []
    with module.context as context, ir.Location.unknown():  # rules spell types
        for operation in operations(module.operation):
            cls = OPS.get(operation.name)
            if cls is None:
                if not allow_unknown and not context.is_registered_operation(operation.name):
                    broken.append((operation.location, f"unknown op '{operation.name}'"))
                continue
            op = operation.opview
            try:
                _check_fields(op)
                op.check()
            except VerifyError as error:
                broken.append((operation.location, f"'{operation.name}' op {error}"))
            except Exception as error:  # malformed input may trip a check anywhere: that is a broken rule too
                broken.append((operation.location, f"'{operation.name}' op is malformed: {type(error).__name__}: {error}"))
    return broken
