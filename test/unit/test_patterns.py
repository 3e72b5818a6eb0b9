"""Guarded patterns: truthy means rewritten, exceptions do not cross C++ frames, endless rewriting is named."""

from collections.abc import Iterator

import pytest

from mlc.errors import CompilerError
from mlc.ir.context import make_context
from mlc.ir.mlir import arith, ir
from mlc.ir.patterns import Patterns


@pytest.fixture
def context() -> Iterator[ir.Context]:
    with make_context() as context, ir.Location.unknown():
        yield context


def module(links: int = 1) -> ir.Module:
    body = "\n".join(f'%{i + 1} = "t.a"(%{i}) : (f32) -> f32' for i in range(links))
    return ir.Module.parse(f'func.func @f(%0: f32) -> f32 {{ {body}\n "t.use"(%{links}) : (f32) -> ()\n return %{links} : f32 }}')


def a_to_neg(patterns: Patterns) -> None:
    @patterns.add("t.a")
    def to_neg(op, rewriter):
        with op.operation.location, rewriter.ip:
            new = arith.NegFOp(op.operands[0])
        rewriter.replace_op(op, [new.result])
        return True


@pytest.mark.parametrize("driver", [Patterns.greedy, Patterns.walk])
def test_rewrites(context: ir.Context, driver) -> None:
    patterns = Patterns()
    a_to_neg(patterns)
    m = module(20)
    assert driver(patterns, m) == 20
    m.operation.verify()
    assert "t.a" not in str(m)
    assert driver(patterns, m) == 0


def test_long_chain_of_patterns_on_new_ops(context: ir.Context) -> None:
    """Each rewrite makes an op that only the driver's next iteration sees."""
    patterns = Patterns()
    for i in range(30):
        @patterns.add(f"t.s{i}")
        def step(op, rewriter, i=i):
            with op.operation.location, rewriter.ip:
                new = ir.Operation.create(f"t.s{i + 1}", results=[op.results[0].type])
            rewriter.replace_op(op, [new.result])
            return True
    m = ir.Module.parse('%0 = "t.s0"() : () -> f32\n"t.use"(%0) : (f32) -> ()')
    patterns.greedy(m)
    assert "t.s30" in str(m)


def test_exception_comes_out_with_a_note_and_the_set_stays_usable(context: ir.Context) -> None:
    patterns = Patterns()
    calls = 0

    @patterns.add("t.a")
    def boom(op, rewriter):
        nonlocal calls
        calls += 1
        raise KeyError("x")

    for _ in range(3):
        with pytest.raises(KeyError) as caught:
            patterns.greedy(module(5))
        assert caught.value.__notes__ == ["while applying pattern 'boom' to 't.a' at " + caught.value.__notes__[0].partition(" at ")[2]]
    assert calls == 3  # nothing is tried after the first exception


def test_falling_through_is_an_error(context: ir.Context) -> None:
    patterns = Patterns()

    @patterns.add("t.a")
    def forgot(op, rewriter):
        op.operation.attributes["seen"] = ir.UnitAttr.get()

    with pytest.raises(TypeError, match="pattern 'forgot' returned None"):
        patterns.greedy(module())


def test_endless_rewriting_names_the_pattern(context: ir.Context) -> None:
    patterns = Patterns(limit=50)

    @patterns.add("t.a")
    def spin(op, rewriter):
        with op.operation.location, rewriter.ip:
            new = ir.Operation.create("t.a", results=[op.results[0].type], operands=[op.operands[0]])
        rewriter.replace_op(op, [new.result])
        return True

    with pytest.raises(CompilerError, match="'spin' rewrote 51 times"):
        patterns.greedy(module())


def test_one_set_in_two_contexts() -> None:
    patterns = Patterns()
    a_to_neg(patterns)
    for _ in range(2):
        with make_context(), ir.Location.unknown():
            m = module()
            assert patterns.greedy(m) == 1
