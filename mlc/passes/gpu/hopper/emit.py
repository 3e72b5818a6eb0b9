"""32-bit arithmetic, shared addresses, loops and inline assembly: what the Hopper builders are written in.

`Int` is a Python int or an i32 value; arithmetic on ints alone happens here, not on the GPU.
"""

from collections.abc import Callable, Sequence

from mlc.ir.mlir import arith, ir, llvm, scf

Int = int | ir.Value

_DYNAMIC = -(1 << 31)  # marks an operand among a GEP's constant indices
_CONSTRAINTS = {"i1": "b", "i16": "h", "i32": "r", "i64": "l", "f32": "f", "f64": "d", "!llvm.ptr": "l"}


def i32_type() -> ir.Type:
    return ir.IntegerType.get_signless(32)


def shared_pointer_type() -> ir.Type:
    """Pointers to the block's shared memory."""
    return ir.Type.parse("!llvm.ptr<3>")


def value(x: Int, bits: int = 32) -> ir.Value:
    """The value itself, or an integer constant of `bits` bits."""
    return arith.ConstantOp(ir.IntegerType.get_signless(bits), x).result if isinstance(x, int) else x


def add(a: Int, b: Int) -> Int:
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if isinstance(a, int):
        a, b = b, a
    return a if b == 0 else arith.AddIOp(a, value(b)).result


def mul(a: Int, b: Int) -> Int:
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    if isinstance(a, int):
        a, b = b, a
    return a if b == 1 else arith.MulIOp(a, value(b)).result


def div(a: Int, b: Int) -> Int:
    """Quotient of non-negative numbers."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    return a if b == 1 else arith.DivUIOp(value(a), value(b)).result


def rem(a: Int, b: Int) -> Int:
    """Remainder of non-negative numbers."""
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    return 0 if b == 1 else arith.RemUIOp(value(a), value(b)).result


def xor(a: Int, b: Int) -> Int:
    if isinstance(a, int) and isinstance(b, int):
        return a ^ b
    return arith.XOrIOp(value(a), value(b)).result


def compare(predicate: str, a: Int, b: Int) -> ir.Value:
    """An i1: a `predicate` b, for "eq", "ne", "ult", "ugt", ..."""
    return arith.CmpIOp(getattr(arith.CmpIPredicate, predicate), value(a), value(b)).result


def select(condition: ir.Value, a: Int, b: Int) -> ir.Value:
    """The value a where the condition holds, else b."""
    return arith.SelectOp(condition, value(a), value(b)).result


def advance(pointer: ir.Value, offset: Int) -> ir.Value:
    """A pointer `offset` bytes further."""
    if isinstance(offset, int) and offset == 0:
        return pointer
    i8 = ir.IntegerType.get_signless(8)
    dynamic, constant = ([], [offset]) if isinstance(offset, int) else ([offset], [_DYNAMIC])
    return llvm.GEPOp(pointer.type, pointer, dynamic, constant, i8, 0).result


def shared_address(pointer: ir.Value) -> ir.Value:
    """The 32-bit address of a shared pointer."""
    return llvm.PtrToIntOp(i32_type(), pointer).result


def shared_pointer(address: Int) -> ir.Value:
    """The shared pointer at a 32-bit address."""
    return llvm.IntToPtrOp(shared_pointer_type(), value(address)).result


def loop(start: Int, stop: Int, step: Int, carried: Sequence[ir.Value],
         body: Callable[..., Sequence[ir.Value]]) -> list[ir.Value]:
    """A loop: for i = start; i < stop; i += step: carried = body(i, *carried)."""
    op = scf.ForOp(value(start), value(stop), value(step), list(carried))
    with ir.InsertionPoint(op.body):
        scf.YieldOp(list(body(op.induction_variable, *op.inner_iter_args)))
    return list(op.results)


def when(condition: ir.Value, then: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
    """A branch: if condition: then() else: otherwise()."""
    op = scf.IfOp(condition, [], has_else=otherwise is not None)
    for block, emit in ((op.then_block, then), *([(op.else_block, otherwise)] if otherwise else [])):
        with ir.InsertionPoint(block):
            emit()
            scf.YieldOp([])


def assembly(text: str, operands: Sequence[ir.Value], tied: Sequence[ir.Value] = ()) -> list[ir.Value]:
    """PTX that may touch memory. `tied` values are read and written in place: $0, $1, ... are they, and their new values the results; the
    operands follow as $n, $n+1, ... with n twice the number of tied values."""
    inputs = [*map(str, range(len(tied))), *map(_constraint, operands)]
    return _inline(text, [*tied, *operands], inputs, [v.type for v in tied])


def produced(text: str, operands: Sequence[ir.Value], types: Sequence[ir.Type]) -> list[ir.Value]:
    """PTX with results of these types, $0, $1, ...; the operands follow."""
    return _inline(text, operands, [_constraint(v) for v in operands], types)


def _inline(text: str, operands: Sequence[ir.Value], inputs: Sequence[str], types: Sequence[ir.Type]) -> list[ir.Value]:
    outputs = [f"={_CONSTRAINTS[str(t)]}" for t in types]
    result = types[0] if len(types) == 1 else ir.Type.parse(f"!llvm.struct<({', '.join(map(str, types))})>") if types else None
    op = llvm.InlineAsmOp(result, list(operands), text, ",".join([*outputs, *inputs, "~{memory}"]), has_side_effects=True)
    if len(types) < 2:
        return list(op.results)
    return [llvm.ExtractValueOp(t, op.results[0], [i]).result for i, t in enumerate(types)]


def _constraint(operand: ir.Value) -> str:
    return _CONSTRAINTS[str(operand.type)]
