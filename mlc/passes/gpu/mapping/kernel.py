"""A kernel while its mapping is chosen: its buffers, its loops, and its ops in the order in which they are done."""

from collections.abc import Iterable, Iterator, Sequence

from mlc.ir.mlir import ir
from mlc.passes.task.flat import Memory
from mlc.target import Target

CROSSING = 1024  # bytes of shared memory in which warps join their parts of reductions, at most


class Kernel:
    """buffers: its arguments in memory, the inputs first. aligned: bytes that each of them is aligned to in every launch.

    memory: strides of block buffers whose rows are padded. turned: block buffers that are written along their rows and read across them.
    """

    def __init__(self, op: ir.Operation, target: Target, alignment: Sequence[int]) -> None:
        self.op, self.target = op, target
        self.name, self.grid = op.opview.py("sym_name"), op.opview.py("grid")
        self.body = op.regions[0].blocks[0]
        arguments = list(self.body.arguments)
        self.buffers = arguments[:len(arguments) - len(self.grid)]
        self.aligned = dict(zip(self.buffers, alignment or [1] * len(self.buffers)))
        self.memory = Memory()
        self.turned: set[ir.Value] = set()

    @property
    def ops(self) -> list[ir.Operation]:
        """The ops of the body in order, those of its loops in the place of the loops."""
        return list(_steps(self.body))

    @property
    def loops(self) -> bool:
        """Whether loops around phases (or others) stand in the body."""
        return any(v.operation.name == "scf.for" for v in self.body.operations)

    @property
    def inputs(self) -> list[ir.Value]:
        return self.buffers[:self.op.opview.py("inputs")]

    def named(self, name: str) -> list[ir.Operation]:
        """The ops of that name, in order."""
        return [op for op in self.ops if op.name == name]

    def allocs(self) -> list[ir.Operation]:
        """The buffers in shared memory."""
        return [op for op in self.named("task.alloc") if op.opview.py("level") == "shared"]

    def outlives(self, values: Iterable[ir.Value]) -> bool:
        """Whether none of the values is made in a loop of the kernel."""
        return all((v.owner if isinstance(v.owner, ir.Block) else v.owner.operation.block) == self.body for v in values)


def _steps(block: ir.Block) -> Iterator[ir.Operation]:
    for view in block.operations:
        op = view.operation
        if op.name == "scf.for" and not len(op.results) and all(_held(v.operation) for v in op.regions[0].blocks[0].operations):
            yield from _steps(op.regions[0].blocks[0])
        elif op.name != "scf.yield":
            yield op


def _held(op: ir.Operation) -> bool:
    """Whether an op may stand in a loop around phases."""
    return op.name.startswith(("task.", "arith.")) or op.name in ("scf.for", "scf.yield")
