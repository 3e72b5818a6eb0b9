"""Pass pipelines: text -> checked steps -> a run that treats Python and C++ passes alike.

`PassManager.parse` knows only C++ passes, and a Python exception must not cross C++ frames. So each pass is one step, run by itself: a C++
pass in a manager of its own (3 microseconds), a Python pass as a plain call. Between steps every tool of `Instrumentation` applies to both.
`func.func(a,b)` runs `a` on every function, then `b` on every function.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlc.dialects import _ext
from mlc.errors import CompilerError, MlcError, PassError
from mlc.ir.diagnostics import Diagnostic, DiagnosticError, Place, capture, diagnostics_of
from mlc.ir.mlir import PassManager, ir
from mlc.passes.instrument import Instrumentation
from mlc.passes.registry import PASSES, PIPELINES, OpPass, PassContext, make_pass, suggest, text_of
from mlc.passes.syntax import Node, Source, parse, split_options
from mlc.passes.upstream import UPSTREAM_PASSES

MODULE = "builtin.module"
_TOP = (MODULE, "any")  # anchors that mean "the module" at the top of a pipeline


@dataclass(frozen=True)
class PassStep:
    """One pass under its anchors. text: the pass with its options."""

    name: str
    text: str
    anchors: tuple[str, ...]
    run: Callable[[ir.Module, PassContext], None]

    @property
    def nested(self) -> str:
        """The step inside `builtin.module(...)`."""
        text = self.text
        for anchor in reversed(self.anchors[1:]):
            text = f"{anchor}({text})"
        return text

    @property
    def label(self) -> str:
        return self.name if len(self.anchors) == 1 else f"{self.name} ({', '.join(self.anchors[1:])})"


class BrokenPass(CompilerError):
    """A pass failed by a bug: it raised an unexpected exception or left invalid IR."""

    def __init__(self, message: str, diagnostics: Sequence[Diagnostic] = (), *, hint: str | None = None) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join([message, *(d.render() for d in diagnostics)]), hint=hint)
        self.summary = message


def build(text: str, context: ir.Context, *, implicit_nesting: bool = False) -> tuple[PassStep, ...]:
    """The steps of a pipeline text; anything wrong in it is a PassError with a caret, before anything runs.

    implicit_nesting: a pass that runs on another op than it is nested under gets nested there (single-pass flags do that).
    """
    with context:
        return tuple(_Builder(context, implicit_nesting).top(Source(text), ()))


def pipeline_text(steps: Sequence[PassStep]) -> str:
    """The canonical text of steps: named pipelines expanded, one anchor per pass."""
    return f"{MODULE}({','.join(s.nested for s in steps)})"


def run_pipeline(module: ir.Module, text: str, ctx: PassContext = PassContext(), *,  # noqa: B008 (frozen)
                 instrumentation: Instrumentation | None = None) -> None:
    """Parses and runs a pipeline on a module, in place. After an error the module is lost.

    Raises PassError (bad text), DiagnosticError (a C++ pass refused its input), whatever MlcError a Python pass raised, or BrokenPass.
    """
    run_steps(module, build(text, module.context), ctx, instrumentation=instrumentation)


def run_steps(module: ir.Module, steps: Sequence[PassStep], ctx: PassContext = PassContext(), *,  # noqa: B008 (frozen)
              instrumentation: Instrumentation | None = None) -> None:
    """Runs steps that `build` made."""
    watch = instrumentation or Instrumentation()
    watch.start(steps)
    with module.context, ir.Location.unknown():
        for index, step in enumerate(steps):
            if watch.reproducer is not None:
                watch.reproducer.before(module, pipeline_text(steps[index:]))
            watch.before(step, module)
            _run_step(module, step, ctx, watch)
            watch.after(step, module)
        if watch.reproducer is not None:
            watch.reproducer.finished()


def verify(module: ir.Module, *, allow_unknown_ops: bool = False) -> list[Diagnostic]:
    """Every broken rule of MLIR or of our dialects."""
    with capture(module.context) as found:
        try:
            broken = _ext.verify(module, allow_unknown_ops)
        except ir.MLIRError as error:
            return found or diagnostics_of(error)
    return [Diagnostic("error", message, Place.of(location)) for location, message in broken]


def _run_step(module: ir.Module, step: PassStep, ctx: PassContext, watch: Instrumentation) -> None:
    found: list[Diagnostic] = []
    try:
        with watch.timed(step.name), capture(module.context) as found:
            step.run(module, ctx)
    except ir.MLIRError as error:
        problem = found or diagnostics_of(error)
        raise _noted(DiagnosticError(problem), step, watch.failed(step, module)) from None
    except MlcError as error:
        watch.report(found)
        raise _noted(error, step, watch.failed(step, module))  # noqa: B904 (the same error)
    except Exception as error:
        message = f"pass '{step.name}' raised {type(error).__name__}: {error}"
        raise BrokenPass(message, found, hint=watch.failed(step, module)) from error
    watch.report(found)
    if not watch.verify_each:
        return
    with watch.timed("(verify)"):
        broken = verify(module, allow_unknown_ops=watch.allow_unknown_ops)
    if broken:
        raise BrokenPass(f"pass '{step.name}' left invalid IR", broken, hint=watch.failed(step, module))


def _noted(error: MlcError, step: PassStep, reproducer: str | None) -> MlcError:
    """The error with notes: in which pass, and the reproducer."""
    error.add_note(f"in pass '{step.name}'")
    if reproducer is not None:
        error.add_note(reproducer)
    return error


class _Builder:
    def __init__(self, context: ir.Context, implicit_nesting: bool) -> None:
        self.context, self.implicit = context, implicit_nesting

    def top(self, source: Source, inside: tuple[str, ...]) -> Iterator[PassStep]:
        """Steps of a whole pipeline text; `inside`: named pipelines being expanded."""
        nodes = parse(source)
        if len(nodes) == 1 and nodes[0].name in _TOP and nodes[0].children is not None:
            nodes = nodes[0].children
        yield from self.under(source, nodes, (MODULE,), inside)

    def under(self, source: Source, nodes: tuple[Node, ...], anchors: tuple[str, ...], inside: tuple[str, ...]) -> Iterator[PassStep]:
        for node in nodes:
            if node.children is not None:
                self.check_anchor(source, node)
                yield from self.under(source, node.children, (*anchors, node.name), inside)
            elif node.name in PIPELINES:
                if node.name in inside:
                    raise source.error(f"pipeline '{node.name}' contains itself", node.at)
                if node.options or len(anchors) > 1:
                    raise source.error(f"'{node.name}' is a pipeline: it runs on the module and takes no options", node.at)
                yield from self.top(Source(PIPELINES[node.name], f"pipeline '{node.name}'"), (*inside, node.name))
            elif node.name in PASSES:
                yield self.python_step(source, node, anchors)
            else:
                yield self.cpp_step(source, node, anchors)

    def check_anchor(self, source: Source, node: Node) -> None:
        """Nesting under an op that does not exist would run nothing, silently."""
        if node.name == "any" or node.name in _ext.OPS:
            return
        namespace = node.name.partition(".")[0]
        try:
            self.context.get_dialect_descriptor(namespace)  # loads it
        except ValueError:
            raise source.error(f"'{node.name}' is not an op: no dialect '{namespace}'", node.at) from None
        if not self.context.is_registered_operation(node.name):
            raise source.error(f"'{node.name}' is not an op of dialect '{namespace}'", node.at)

    def python_step(self, source: Source, node: Node, anchors: tuple[str, ...]) -> PassStep:
        options = split_options(source, node)
        try:
            instance = make_pass(node.name, {key: value for key, (value, _) in options.items()})
        except PassError as error:
            named = next((at for key, (_, at) in options.items() if f"'{key}'" in error.message), node.at)
            raise source.error(error.message, named, hint=error.hint) from None
        anchors = self.nest(source, node, instance.anchor, anchors)
        if not isinstance(instance, OpPass):
            return PassStep(node.name, text_of(instance), anchors, instance.run)
        run_on = instance.run_on

        def run(module: ir.Module, ctx: PassContext) -> None:
            for op in list(_ops_under(module.operation, anchors[1:])):
                run_on(op, ctx)

        return PassStep(node.name, text_of(instance), anchors, run)

    def cpp_step(self, source: Source, node: Node, anchors: tuple[str, ...]) -> PassStep:
        step = PassStep(node.name, node.text, anchors, _no_run)
        try:
            PassManager.parse(pipeline_text([step]))
        except ValueError as error:
            restricted = re.search(r"restricted to '([^']+)'", str(error))
            if restricted is None:
                raise _cpp_error(source, node, str(error)) from None
            anchors = self.nest(source, node, restricted[1], anchors)

        def run(module: ir.Module, ctx: PassContext) -> None:
            manager = PassManager.parse(pipeline_text([nested]))
            manager.enable_verifier(False)  # run_steps verifies, Python and C++ passes alike
            manager.run(module.operation)

        nested = PassStep(node.name, node.text, anchors, run)
        return nested

    def nest(self, source: Source, node: Node, wanted: str, anchors: tuple[str, ...]) -> tuple[str, ...]:
        """The anchors for a pass that runs on `wanted` ops; an error if it stands under another op."""
        if anchors[-1] == wanted and (wanted != MODULE or len(anchors) == 1):
            return anchors
        if self.implicit and wanted != MODULE:
            return (*anchors, wanted)
        hint = "move it to the top level" if wanted == MODULE else f"write {wanted}({node.text})"
        raise source.error(f"pass '{node.name}' runs on '{wanted}', but is nested under '{anchors[-1]}'", node.at, hint=hint)


def _no_run(module: ir.Module, ctx: PassContext) -> None:
    """Stands in a step that is only printed."""


def _ops_under(op: ir.Operation, anchors: Sequence[str]) -> Iterator[Any]:
    """The ops at the end of a chain of anchors, each level the direct children of the one above ('any' is every child)."""
    if not anchors:
        yield op.opview
        return
    for region in op.regions:
        for block in region:
            for child in list(block.operations):
                if anchors[0] in (child.operation.name, "any"):
                    yield from _ops_under(child.operation, anchors[1:])


def _cpp_error(source: Source, node: Node, text: str) -> PassError:
    if "does not refer to a registered pass" in text:
        hint = suggest(node.name, [*PASSES, *PIPELINES, *UPSTREAM_PASSES])
        return source.error(f"no pass or pipeline is named '{node.name}'", node.at, hint=hint or "mlc-opt --list-passes shows all")
    option = re.search(r"no such option (\S+)", text)
    if option is not None:
        at = next((at for key, (_, at) in split_options(source, node).items() if key == option[1]), node.at)
        return source.error(f"pass '{node.name}' has no option '{option[1]}'", at)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("failed to add")]
    return source.error(f"pass '{node.name}': {lines[0].strip() if lines else f'bad options {{{node.options}}}'}", node.at)
