"""Pipelines, passes, targets and diagnostics as the driver uses them; the command line is tested in test/lit/tools."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc.cli.opt_expect import check
from mlc.errors import CompilerError, PassError, ResourceError, TargetError, UnsupportedError
from mlc.ir.context import make_context
from mlc.ir.diagnostics import Diagnostic, DiagnosticError, Place, capture, parse_module
from mlc.ir.mlir import PassManager, ir
from mlc.passes import registry
from mlc.passes.instrument import Instrumentation, Reproducer, Timing, read_reproducer
from mlc.passes.pipeline import BrokenPass, build, pipeline_text, run_pipeline
from mlc.passes.registry import OpPass, Pass, PassContext, describe, make_pass, pass_class, register_pass, text_of
from mlc.passes.syntax import Source, parse
from mlc.passes.upstream import UPSTREAM_PASSES
from mlc.target import Target

TEXT = "func.func @f(%a: i64) { %0 = arith.addi %a, %a : i64\n return }\nfunc.func @g() { return }"


@dataclass(frozen=True)
class Note(Pass):
    """Writes its options on the module."""

    name: ClassVar[str] = "unit-note"
    n: int = 1
    names: str = "x"
    sizes: tuple[int, ...] = ()
    on: bool = False
    scale: float = 0.5

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        module.operation.attributes["test.note"] = ir.StringAttr.get(f"{text_of(self)} {ctx.target}")


@dataclass(frozen=True)
class Tag(OpPass):
    """Tags functions."""

    name: ClassVar[str] = "unit-tag"
    anchor: ClassVar[str] = "func.func"

    def run_on(self, op: Any, ctx: PassContext) -> None:
        op.attributes["test.tag"] = ir.UnitAttr.get()


@dataclass(frozen=True)
class Bad(Pass):
    """Fails."""

    name: ClassVar[str] = "unit-bad"
    how: str

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        module.operation.attributes["test.half"] = ir.UnitAttr.get()
        match self.how:
            case "user":
                raise UnsupportedError("no", node="'n'", hint="do")
            case "bug":
                raise IndexError("oops")
            case "remark":
                with module.context:
                    ir.Location.name("Conv_1").emit_error("said, but not fatal")
            case _:
                ir.Operation.create("nosuch.op", loc=ir.Location.unknown(), ip=ir.InsertionPoint(module.body))


@pytest.fixture(autouse=True)
def passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PASSES", dict(registry.PASSES))
    monkeypatch.setattr("mlc.passes.pipeline.PASSES", registry.PASSES)
    monkeypatch.setattr(registry, "_LOADED", dict(registry._LOADED))
    for cls in (Note, Tag, Bad):
        register_pass(cls)


@pytest.fixture
def module() -> ir.Module:
    return parse_module(TEXT, make_context())


def build_error(text: str) -> str:
    with pytest.raises(PassError) as caught:
        build(text, make_context())
    return str(caught.value)


def test_mixed_pipeline(module: ir.Module) -> None:
    ctx = PassContext(Target.parse("cpu:x86-64-v3"))
    run_pipeline(module, "unit-note{n=3 names={a b} sizes=4,8 on scale=2}, func.func(unit-tag, canonicalize)", ctx)
    text = str(module)
    assert 'test.note = "unit-note{n=3 names=\\22a b\\22 sizes=4,8 on=true scale=2.0} cpu:x86-64-v3"' in text
    assert text.count("attributes {test.tag}") == 2
    assert "arith.addi" not in text


def test_named_pipelines_expand(monkeypatch: pytest.MonkeyPatch, module: ir.Module) -> None:
    monkeypatch.setitem(registry.PIPELINES, "unit-inner", "builtin.module(func.func(cse))")
    monkeypatch.setitem(registry.PIPELINES, "unit-outer", "unit-inner,\n  unit-note,\n  symbol-dce")
    monkeypatch.setitem(registry.PIPELINES, "unit-loop", "cse,unit-loop")
    monkeypatch.setitem(registry.PIPELINES, "unit-wrong", "cse,\n  nosuch")
    assert pipeline_text(build("unit-outer,canonicalize", module.context)) == \
        "builtin.module(func.func(cse),unit-note,symbol-dce,canonicalize)"
    assert "pipeline 'unit-loop' contains itself" in build_error("unit-loop")
    assert build_error("unit-wrong").startswith("pipeline 'unit-wrong':2:3: no pass or pipeline is named 'nosuch'\n    nosuch\n    ^")
    assert "it runs on the module" in build_error("func.func(unit-outer)")


@pytest.mark.parametrize(("text", "column", "message"), [
    ("unit-note{m=1}", 11, "has no option 'm'"),
    ("cse,unit-note{ n=1 n=2}", 20, "given twice"),
    ("unit-note{n=1.5}", 11, "takes int, found '1.5'"),
    ("unit-note{on=maybe}", 11, "takes bool"),
    ("unit-note{sizes=a}", 11, "takes tuple[int, ...]"),
    ("unit-bad", 1, "needs option 'how'"),
    ("unit-tag", 1, "runs on 'func.func', but is nested under 'builtin.module'"),
    ("func.func(unit-note)", 11, "runs on 'builtin.module', but is nested under 'func.func'"),
    ("func.func(scf.for(unit-tag))", 19, "runs on 'func.func', but is nested under 'scf.for'"),
    ("nosuch.op(cse)", 1, "no dialect 'nosuch'"),
    ("func.nosuch(cse)", 1, "is not an op of dialect 'func'"),
    ("cse{x=1}", 5, "has no option 'x'"),
    ("canonicalize{max-iterations=q}", 1, "bad options"),
    ("cse)", 4, "unbalanced ')'"),
    ("cse cse", 5, "expected ',' or the end"),
    ("unit-note{n='1}", 13, "unterminated quote"),
    ("unit-note{n=1", 10, "never closed"),
])
def test_bad_pipelines(text: str, column: int, message: str) -> None:
    error = build_error(text)
    assert error.startswith(f"pass pipeline:1:{column}: ")
    assert message in error
    shown, caret = error.splitlines()[1:3]
    assert shown == f"  {text}"
    assert caret == " " * (column + 1) + "^"


@given(st.text(alphabet="ab{}(),=' \n\"", max_size=30))
def test_any_text_parses_or_is_a_pass_error(text: str) -> None:
    try:
        nodes = parse(Source(text))
    except PassError:
        return
    again = parse(Source(",".join(n.text for n in nodes)))
    assert [n.text for n in again] == [n.text for n in nodes]


@given(st.text(alphabet="ab c=,(){}'\"", max_size=8).filter(lambda s: s.count("{") == s.count("}") == 0 and not ({'"', "'"} <= set(s))),
       st.lists(st.integers(), max_size=3), st.booleans(), st.floats(allow_nan=False))
def test_options_survive_text(names: str, sizes: list[int], on: bool, scale: float) -> None:
    registry.PASSES["unit-note"], registry._LOADED["unit-note"] = "", Note
    instance = Note(names=names, sizes=tuple(sizes), on=on, scale=scale)
    with make_context() as context:
        step, = build(text_of(instance), context)
    assert step.text == text_of(instance)
    assert step.run.__self__ == instance  # type: ignore[attr-defined]


def test_user_error_keeps_its_type(module: ir.Module, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError) as caught:
        run_pipeline(module, "cse,unit-bad{how=user},cse", instrumentation=Instrumentation(reproducer=Reproducer(tmp_path / "r.mlir")))
    assert caught.value.__notes__ == ["in pass 'unit-bad'", f"reproducer: mlc-opt --run-reproducer {tmp_path / 'r.mlir'}"]
    text = (tmp_path / "r.mlir").read_text()
    assert read_reproducer(text) == {"pipeline": "builtin.module(unit-bad{how=user},cse)"}
    assert "test.half" not in text  # the IR from before the failing pass
    parse_module(text, make_context())


@pytest.mark.parametrize("eager", [False, True])
def test_no_reproducer_without_failure(module: ir.Module, tmp_path: Path, eager: bool) -> None:
    run_pipeline(module, "cse", instrumentation=Instrumentation(reproducer=Reproducer(tmp_path / "r.mlir", eager=eager)))
    assert list(tmp_path.iterdir()) == []


def test_unwritable_reproducer_does_not_hide_the_error(module: ir.Module, tmp_path: Path) -> None:
    with pytest.raises(BrokenPass, match="raised IndexError: oops") as caught:
        run_pipeline(module, "unit-bad{how=bug}", instrumentation=Instrumentation(reproducer=Reproducer(tmp_path / "no" / "r.mlir")))
    assert "no reproducer" in str(caught.value.hint)
    assert isinstance(caught.value.__cause__, IndexError)


def test_invalid_ir_is_the_pass_fault(module: ir.Module) -> None:
    with pytest.raises(BrokenPass, match=r"pass 'unit-bad' left invalid IR\nerror: unknown op 'nosuch.op'") as caught:
        run_pipeline(module, "unit-bad{how=invalid}")
    assert caught.value.exit_code == 70
    assert issubclass(BrokenPass, CompilerError)


def test_verify_each_can_be_off(module: ir.Module) -> None:
    run_pipeline(module, "unit-bad{how=invalid}", instrumentation=Instrumentation(verify_each=False))


def test_diagnostics_of_passes_that_succeed_are_reported(module: ir.Module) -> None:
    seen: list[Diagnostic] = []
    run_pipeline(module, "unit-bad{how=remark}", instrumentation=Instrumentation(on_diagnostics=seen.extend))
    assert [(d.message, d.place.nodes) for d in seen] == [("said, but not fatal", ("Conv_1",))]


def test_cpp_failure(module: ir.Module) -> None:
    with pytest.raises(DiagnosticError, match="named sequence") as caught:
        run_pipeline(module, "any(cse),transform-interpreter")
    assert caught.value.exit_code == 1


def test_timing_and_dump(module: ir.Module, tmp_path: Path) -> None:
    timing = Timing()
    watch = Instrumentation(timing=timing, dump_dir=tmp_path / "d")
    run_pipeline(module, "cse,func.func(unit-tag)", instrumentation=watch)
    assert set(timing.seconds) == {"cse", "unit-tag", "(verify)"}
    assert "test.tag" in (tmp_path / "d" / "01_unit-tag.mlir").read_text()
    run_pipeline(module, "cse", instrumentation=watch)  # the next stage of a compile: counted on
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["00_cse.mlir", "01_unit-tag.mlir", "02_cse.mlir"]


def test_a_dump_that_cannot_be_written_is_no_fault_of_the_pass(module: ir.Module, tmp_path: Path) -> None:
    (tmp_path / "d" / "00_cse.mlir").mkdir(parents=True)
    with pytest.raises(ResourceError, match=r"cannot write .*00_cse\.mlir: Is a directory"):
        run_pipeline(module, "cse", instrumentation=Instrumentation(dump_dir=tmp_path / "d"))


def test_every_registered_pass_and_pipeline_is_sound() -> None:
    context = make_context()
    for name in registry.PASSES:
        assert issubclass(pass_class(name), Pass)
        assert describe(name).summary, f"{name} needs a docstring"
        registry.options_of(pass_class(name))
    for name in registry.PIPELINES:
        build(name, context)


def test_upstream_names_resolve() -> None:
    with make_context():
        for name in UPSTREAM_PASSES:
            PassManager.parse(f"any({name})" if not name.endswith("-pipeline") else f"builtin.module({name})")


def test_option_names_are_checked() -> None:
    @dataclass(frozen=True)
    class Wrong(Note):
        """Wrong."""

        name: ClassVar[str] = "unit-wrong-type"
        what: dict[str, int] | None = None

    register_pass(Wrong)
    with pytest.raises(CompilerError, match="option 'what'"):
        make_pass("unit-wrong-type", {})


def test_locations_and_rendering() -> None:
    with make_context() as context:
        conv = ir.Location.name("Conv_1", ir.Location.file("m.onnx", 0, 0))
        fused = ir.Location.fused([conv, ir.Location.name("Relu_2"), conv])
        assert str(Place.of(fused)) == "nodes 'Conv_1', 'Relu_2'"
        assert str(Place.of(ir.Location.callsite(conv, [ir.Location.file("a.mlir", 3, 4)]))) == "a.mlir:3:4: node 'Conv_1'"
        assert str(Place.of(ir.Location.unknown())) == "<unknown location>"
        with capture(context) as found:
            conv.emit_error("is bad")
        assert found[0].render() == "node 'Conv_1': error: is bad"
    assert Diagnostic("error", "x", Place("f", 2, 3)).render({"f": "one\n\tab"}) == "f:2:3: error: x\n\tab\n\t ^"


def test_parse_errors_have_places() -> None:
    with pytest.raises(DiagnosticError) as caught:
        parse_module("func.func @f() {\n  graph.relu\n  return\n}", make_context(), name="a.mlir")
    text = caught.value.render({"a.mlir": "func.func @f() {\n  graph.relu\n"})
    assert text.startswith("a.mlir:2:3: error: ")
    assert "with the op name quoted" in text


def test_expectations() -> None:
    text = """a // expected-error {{bad}}
// expected-error-re@+1 {{x {{[0-9]+}}}}
b
// expected-note@above {{n}}
// expected-error@unknown {{lost}}"""
    note = Diagnostic("note", "n", Place("f", 3, 1))
    found = [Diagnostic("error", "very bad", Place("f", 1, 1)), Diagnostic("error", "x 12", Place("f", 3, 1), (note,)),
             Diagnostic("error", "lost")]
    assert check(text, "f", found) == []
    assert [d.message for d in check(text, "f", found[1:])] == ['expected error "bad" was not produced']
    assert [d.message for d in check("", "f", found[:1])] == ["unexpected error: very bad"]


@pytest.mark.parametrize("name", Target.known())
def test_targets_round_trip(name: str) -> None:
    target = Target.parse(name)
    assert Target.parse(str(target)) == target
    assert ":" not in name or str(target) == name
    assert (target.kind != "cpu") == (target.warp > 0)


def test_target_facts_and_errors() -> None:
    target = Target.parse("cpu:x86-64-v4,cores=8,features=avx512vnni+amx-tile")
    assert (target.cores, target.features, target.vector_bits) == (8, ("amx-tile", "avx512vnni"), 512)
    assert Target.parse(str(target)) == target
    for name, said in (("cuda:sm90a", "did you mean 'sm_90a'"), ("rocm:", "unknown rocm architecture"),
                       ("tpu9:x", "known: cpu, cuda, rocm"),
                       ("cpu:x86-64-v3,core=1", "did you mean 'cores'"), ("cpu,cores=x", "must be a whole number")):
        with pytest.raises(TargetError) as caught:
            Target.parse(name)
        assert said in str(caught.value)
