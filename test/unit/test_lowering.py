"""The walk-based lowering driver: value map, regions, block arguments, and every way a rule can be wrong."""

from collections.abc import Iterator

import pytest

from mlc.ir.context import make_context
from mlc.ir.lowering import Lowering, LoweringError
from mlc.ir.mlir import arith, func, ir


@pytest.fixture
def context() -> Iterator[ir.Context]:
    with make_context() as context, ir.Location.unknown():
        yield context


def parse(text: str) -> ir.Module:
    return ir.Module.parse(text)


def names(module: ir.Module) -> list[str]:
    found: list[str] = []
    module.operation.walk(lambda op: (found.append(op.name), ir.WalkResult.ADVANCE)[1], ir.WalkOrder.PRE_ORDER)
    return found[1:]


def adds() -> Lowering:
    lowering = Lowering("test", illegal=("t",))

    @lowering.rule("t.add")
    def _(low, op):
        a, b = low.operands(op)
        return [arith.AddFOp(a, b).result]

    return lowering


CHAIN = """func.func @f(%a: f32) -> f32 {
  %0 = "t.add"(%a, %a) : (f32, f32) -> f32
  %1 = "t.add"(%0, %a) : (f32, f32) -> f32
  return %1 : f32
}"""


def test_chain_keeps_locations(context: ir.Context) -> None:
    module = parse(CHAIN)
    adds().run(module)
    module.operation.verify()
    assert names(module) == ["func.func", "arith.addf", "arith.addf", "func.return"]
    add = module.body.operations[0].regions[0].blocks[0].operations[1]
    assert add.location.start_line == 3


def test_regions_of_ops_without_rules_are_walked(context: ir.Context) -> None:
    module = parse("""func.func @f(%c: i1, %a: f32) -> f32 {
      %0 = "t.add"(%a, %a) : (f32, f32) -> f32
      %r = scf.if %c -> f32 { %1 = "t.add"(%0, %a) : (f32, f32) -> f32
        scf.yield %1 : f32 } else { scf.yield %0 : f32 }
      return %r : f32 }""")
    adds().run(module)
    module.operation.verify()
    assert "t.add" not in names(module)


def test_inline_with_arguments(context: ir.Context) -> None:
    lowering = adds()

    @lowering.rule("t.group")
    def _(low, op):
        return low.inline(op.operation.regions[0].blocks[0], low.operands(op))

    module = parse("""func.func @f(%a: f32) -> f32 {
      %0 = "t.add"(%a, %a) : (f32, f32) -> f32
      %r = "t.group"(%0) ({
        ^bb0(%x: f32):
        %1 = "t.add"(%x, %0) : (f32, f32) -> f32
        %q = "t.group"(%1) ({ ^bb0(%y: f32):
          %2 = "t.add"(%y, %x) : (f32, f32) -> f32
          "t.yield"(%2) : (f32) -> () }) : (f32) -> f32
        "t.yield"(%q) : (f32) -> () }) : (f32) -> f32
      return %r : f32 }""")
    lowering.run(module)
    module.operation.verify()
    assert names(module) == ["func.func", "arith.addf", "arith.addf", "arith.addf", "func.return"]


def test_one_to_many_and_new_block_arguments(context: ir.Context) -> None:
    """A complex number becomes two floats, through a function's signature."""
    f32 = ir.F32Type.get()
    lowering = Lowering("split", illegal=("t",))

    @lowering.rule(func.FuncOp)
    def _(low, op):
        low.convert_arguments(op.body.blocks[0], lambda t: [f32, f32] if str(t).startswith("complex") else [t])
        low.regions(op)
        op.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get([a.type for a in op.body.blocks[0].arguments][2:], [f32]))

    @lowering.rule("t.swap")
    def _(low, op):
        re, im = low.values(op.operands[0])
        return [(im, re)]

    @lowering.rule("t.real")
    def _(low, op):
        return [low.values(op.operands[0])[0]]

    module = parse("""func.func @f(%z: complex<f32>, %a: f32) -> f32 {
      %0 = "t.swap"(%z) : (complex<f32>) -> complex<f32>
      %1 = "t.real"(%0) : (complex<f32>) -> f32
      %2 = arith.addf %1, %a : f32
      return %2 : f32 }""")
    lowering.run(module)
    module.operation.verify()
    assert "func.func @f(%arg0: f32, %arg1: f32, %arg2: f32)" in str(module)
    assert "arith.addf %arg1, %arg2" in str(module)


def test_dialect_rule_and_exact_rule(context: ir.Context) -> None:
    lowering = adds()
    seen: list[str] = []

    @lowering.rule("t.*")
    def _(low, op):
        seen.append(low.state + op.operation.name)
        return low.operands(op)[:1]

    module = parse("""func.func @f(%a: f32) -> f32 {
      %0 = "t.same"(%a) : (f32) -> f32
      %1 = "t.add"(%0, %0) : (f32, f32) -> f32
      return %1 : f32 }""")
    lowering.run(module, state="in ")
    assert seen == ["in t.same"]


def test_kept_ops_can_be_updated(context: ir.Context) -> None:
    lowering = Lowering("test")

    @lowering.rule("t.cast")
    def _(low, op):
        return [arith.ConstantOp(ir.F64Type.get(), 1.0).result]

    @lowering.rule("t.use")
    def _(low, op):
        low.update(op)

    module = parse('func.func @f(%a: f32) { %0 = "t.cast"(%a) : (f32) -> f32\n "t.use"(%0) : (f32) -> ()\n return }')
    lowering.run(module)
    assert '"t.use"(%cst) : (f64) -> ()' in str(module)


def error_of(lowering: Lowering, text: str) -> str:
    with pytest.raises(LoweringError) as caught:
        lowering.run(parse(text))
    return str(caught.value)


def test_illegal_ops_are_counted(context: ir.Context) -> None:
    text = error_of(adds(), 'func.func @f() {\n "t.x"() : () -> ()\n "t.y"() : () -> ()\n "t.x"() : () -> ()\n return }')
    assert "-:2:2: error: 't.x' op is still there after test (left: 2 t.x, 1 t.y)" in text


def test_changed_type_needs_a_rule(context: ir.Context) -> None:
    lowering = Lowering("test")
    lowering.rule("t.cast")(lambda low, op: [arith.ConstantOp(ir.F64Type.get(), 1.0).result])
    text = error_of(lowering, 'func.func @f(%a: f32) -> f32 { %0 = "t.cast"(%a) : (f32) -> f32\n return %0 : f32 }')
    assert "'func.return' op operand 0 of type f32 became f64, and the op has no test rule" in text


def test_wrong_number_of_results(context: ir.Context) -> None:
    lowering = Lowering("test")
    lowering.rule("t.two")(lambda low, op: [])
    text = error_of(lowering, 'func.func @f() { %0:2 = "t.two"() : () -> (f32, f32)\n return }')
    assert "has 2 results, but its test rule returned 0" in text


def test_a_use_left_behind_is_an_error_not_a_crash(context: ir.Context) -> None:
    lowering = adds()
    lowering.rule("t.keep")(lambda low, op: None)  # keeps the op, forgets its operands
    text = error_of(lowering, 'func.func @f(%a: f32) { %0 = "t.add"(%a, %a) : (f32, f32) -> f32\n "t.keep"(%0) : (f32) -> ()\n return }')
    assert "result 0 was lowered, but 't.keep' still uses the old value" in text


def test_two_rules_for_an_op() -> None:
    with pytest.raises(ValueError, match=r"two rules for t\.add"):
        adds().rule("t.add")(lambda low, op: None)


def test_exceptions_of_rules_are_ordinary(context: ir.Context) -> None:
    lowering = Lowering("test")

    @lowering.rule("t.add")
    def _(low, op):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        lowering.run(parse(CHAIN))
