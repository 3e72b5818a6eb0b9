"""task: block programs. A `task.kernel` is what one block of a grid does, on memrefs, with named copies, loops and matrix atoms.

@main at this level holds the plan: buffers in one arena, launches in order, and scf control flow.

`#task.map<repeat(4, 1) * spatial(8, 16)>` is a task mapping (`mlc.layout.mapping`): which thread does which points, in which order.
"""

from math import prod

from mlc.dialects._ext import OpBase, Operand, Operands, Region, Result, Results, VerifyError, attribute, dialect
from mlc.dtypes import BY_NAME
from mlc.ir.mlir import ir
from mlc.layout.mapping import TaskMap

Task = dialect("task", "Block programs on memrefs, and the plan that launches them.")
attribute("task", "map", TaskMap)


class TaskOp(OpBase):
    """Base of task ops."""

    dialect = Task
    pure = False


class KernelOp(TaskOp, name="kernel"):
    """One grid of blocks. Body arguments: memrefs (`inputs` read-only ones, then outputs), then one index per grid dimension: the block.

    On targets that have threads, `threads` is their number in a block, `alignment` the bytes that each memref's start is aligned to,
    `shared` the bytes of the block's shared memory, and `scratch` the offset of its part in which warps join reductions. `constants` are
    the numbers of the memrefs that are weights in every launch: no earlier launch writes them. Blocks are taken row-major, except with a
    `band`: then along the last but one dimension of the grid, so many of its indices, before the last one changes.
    With `cluster` all blocks of the grid run at once, and may meet at barriers of that scope. A block with `split` is as many blocks of the
    machine, a cluster, which share its threads evenly; they have no buffers in shared memory in common.

    Example:
      "task.kernel"() ({
      ^bb0(%x: memref<64xf32>, %y: memref<64xf32>, %b: index):
        "task.foreach"() ({
        ^bb1(%i: index):
          %v = "task.load"(%x, %i, %b) {map = affine_map<(d0, d1) -> (d0 + d1 * 16)>} : (memref<64xf32>, index, index) -> f32
          %zero = arith.constant 0.0 : f32
          %r = arith.maximumf %v, %zero : f32
          "task.store"(%r, %y, %i, %b) {map = affine_map<(d0, d1) -> (d0 + d1 * 16)>} : (f32, memref<64xf32>, index, index) -> ()
          "task.yield"() : () -> ()
        }) {extents = [16]} : () -> ()
        "task.end"() : () -> ()
      }) {sym_name = "relu", grid = [4], inputs = 1, threads = 128} : () -> ()
    """

    sym_name: str
    grid: list
    inputs: int
    threads: int | None = None
    alignment: list | None = None
    shared: int = 0
    scratch: int = 0
    constants: list = []
    band: int | None = None
    cluster: bool = False
    split: int = 1
    body: Region

    def check(self) -> None:
        arguments = [a.type for a in self.body.blocks[0].arguments]
        buffers = [t for t in arguments if isinstance(t, ir.MemRefType)]
        if arguments[:len(buffers)] != buffers or len(arguments) != len(buffers) + len(self.grid):
            raise VerifyError(f"takes memrefs, then {len(self.grid)} block indices, got {[str(t) for t in arguments]}")
        if any(not isinstance(n, int) or n < 1 for n in self.grid):
            raise VerifyError(f"needs a positive grid, got {self.grid}")
        if not 0 <= self.inputs <= len(buffers):
            raise VerifyError(f"declares {self.inputs} inputs of {len(buffers)} buffers")
        if self.threads is not None and self.threads < 1:
            raise VerifyError(f"needs a positive number of threads, got {self.threads}")
        if self.split < 1 or (self.threads or 0) % self.split or (self.cluster and self.split > 1):
            raise VerifyError(f"is split {self.split} times, expected a divisor of its {self.threads} threads, and no other cluster")
        if self.band is not None and (self.band < 1 or len(self.grid) < 2):
            raise VerifyError(f"has a band of {self.band} in the grid {self.grid}, expected a positive one in two dimensions or more")


class EndOp(TaskOp, name="end"):
    """Ends a kernel or a group.

    Example: "task.end"() : () -> ()
    """


class AllocOp(TaskOp, name="alloc"):
    """Memory of one block at a level ("shared" or "register"); uninitialised.

    Of a register buffer each thread has the elements that it writes; only it reads them. `pitch` is the distance between rows (of the last
    dimension) in elements, if not the row's length; `offset` is the place in the block's shared memory in bytes.

    Example:
      %s = "task.alloc"() {level = "shared"} : () -> memref<16x64xf32>
      %t = "task.alloc"() {level = "shared", pitch = 68, offset = 4096} : () -> memref<16x64xf32>
    """

    level: str
    pitch: int | None = None
    offset: int | None = None
    y: Result

    def check(self) -> None:
        if self.level not in ("shared", "register"):
            raise VerifyError(f"level must be shared or register, got '{self.level}'")
        if (self.pitch, self.offset) != (None, None) and self.level != "shared":
            raise VerifyError(f"has a pitch or offset at level '{self.level}', expected them at level 'shared'")
        shape = self.y.type.shape
        if self.pitch is not None and (not shape or self.pitch < shape[-1]):
            raise VerifyError(f"has pitch {self.pitch}, expected at least the row's length in {self.y.type}")
        if self.offset is not None and self.offset < 0:
            raise VerifyError(f"has offset {self.offset}, expected bytes from the start of the block's memory")


class ForeachOp(TaskOp, name="foreach"):
    """Runs its body for every point of a box, in any order and in parallel. Body arguments: one index per dimension of `extents`.

    The body reads by `task.load`; results leave through `task.store`. `map` distributes the box [points, reduction points], both flattened
    row-major, over the block's workers: its threads, or on CPUs, where one thread runs a block, the lanes of a vector. It covers at least
    that box; what is beyond is left out, or, on CPUs, the last vector of a row is moved back inside. Several workers may share the
    reduction of a point, and join their parts, if the reduction is associative. `columns` are dimensions of the extents that lie along
    the map's second dimension instead of the first; a reduction is then one thread's. In a kernel with rows (`gpu.rows`), where threads
    share a row, all of them do an op that has one point per row, and the first of them stores it to memory. Without a map, on a GPU, it
    is done by the threads that hold the product's sums which it reads, of level "register".

    Example:
      "task.foreach"() ({
      ^bb0(%i: index, %j: index):
        %v = "task.load"(%x, %j) {map = affine_map<(d0) -> (d0)>} : (memref<64xf32>, index) -> f32
        "task.store"(%v, %y, %i, %j) {map = affine_map<(d0, d1) -> (d0, d1)>} : (f32, memref<16x64xf32>, index, index) -> ()
        "task.yield"() : () -> ()
      }) {extents = [16, 64], map = #task.map<repeat(2, 1) * spatial(128, 1) * repeat(4, 1)>} : () -> ()
    """

    extents: list
    map: TaskMap | None = None
    columns: list = []
    body: Region

    def check(self) -> None:
        if len(self.body.blocks[0].arguments) != len(self.extents):
            raise VerifyError(f"body takes {len(self.extents)} indices, got {len(self.body.blocks[0].arguments)}")
        if sorted(set(self.columns)) != self.columns or any(not 0 <= d < len(self.extents) for d in self.columns):
            raise VerifyError(f"has columns {self.columns}, expected dimensions of its {len(self.extents)} extents, ascending")
        if self.map is not None:
            self._check_map(self.map)

    def _check_map(self, map_: TaskMap) -> None:
        reduces = [v for v in self.body.blocks[0].operations if v.operation.name == "task.reduce"]
        columns = [n for d, n in enumerate(self.extents) if d in self.columns]
        depth = prod(columns) if columns else max((prod(v.operation.opview.py("extents")) for v in reduces), default=1)
        box = (prod(n for d, n in enumerate(self.extents) if d not in self.columns), depth)
        if map_.rank != 2 or any(have < need for have, need in zip(map_.shape, box)):
            raise VerifyError(f"map {map_} covers {list(map_.shape)}, expected at least {list(box)}: points, reduction points")
        shared = any(d.spatial and d.dim == 1 for d in map_.digits())
        if shared and not columns and not all(all(v.operation.opview.py("combine")) for v in reduces):
            raise VerifyError(f"map {map_} shares a reduction among threads that must run in order")
        kernel = self.operation.parent
        if kernel is None or kernel.name != "task.kernel":
            return  # a fragment, such as a test's
        threads = kernel.opview.py("threads")
        if threads is not None and map_.workers > threads:
            raise VerifyError(f"map {map_} needs {map_.workers} threads, the kernel has {threads}")


class ReduceOp(TaskOp, name="reduce"):
    """Folds over a box, in any order: accumulators start at the operands, the body takes indices then accumulators and yields new ones.

    `combine` names, per accumulator, the associative op that joins partial results ("addf", "maximumf", ...), or "" if the body is not of
    the form op(acc, x) and must run in order.

    Example:
      %s = "task.reduce"(%zero) ({
      ^bb0(%k: index, %acc: f32):
        %v = "task.load"(%x, %k) {map = affine_map<(d0) -> (d0)>} : (memref<64xf32>, index) -> f32
        %n = arith.addf %acc, %v : f32
        "task.yield"(%n) : (f32) -> ()
      }) {extents = [64], combine = ["addf"]} : (f32) -> f32
    """

    inits: Operands
    results_: Results
    extents: list
    combine: list
    body: Region


class YieldOp(TaskOp, name="yield"):
    """Ends the body of foreach or reduce.

    Example: "task.yield"() : () -> ()
    """

    values: Operands


class LoadOp(TaskOp, name="load"):
    """The element of a memref at `map`(indices); indices are loop indices and block offsets.

    A `kept` one is the same in every iteration of the kernel's loops: each thread loads its elements once, ahead of them. An `early` one
    reads what nobody writes between the barrier (task.barrier) before it and itself: threads load it right behind that barrier.

    Example: %v = "task.load"(%x, %i, %o) {map = affine_map<(d0, d1) -> (d0 + d1)>} : (memref<64xf32>, index, index) -> f32
    """

    memref: Operand
    indices: Operands
    y: Result
    map: ir.Attribute
    kept: bool = False
    early: bool = False


class StoreOp(TaskOp, name="store"):
    """Writes an element at `map`(indices).

    Example: "task.store"(%v, %x, %i, %o) {map = affine_map<(d0, d1) -> (d0 + d1)>} : (f32, memref<64xf32>, index, index) -> ()
    """

    value: Operand
    memref: Operand
    indices: Operands
    map: ir.Attribute


class MmaOp(TaskOp, name="mma"):
    """Multiply-accumulate over a box: c[map_c(p)] = init + sum_k a[map_a(p, k)] * b[map_b(p, k)], p and k box points.

    Operands: a, b, c, then block offsets. `extents`: parallel dimensions, then `reductions` reduction dimensions. Maps take all loop
    indices, then the offsets. a and b are widened to c's element type first. `atom` names the unit that computes it; "fma" is any FMA unit.
    `codes`: the float8 types whose codes a and b hold, if they do.

    `panels` gives, for a and b, the width of the panels the operand is stored in (see tile.map), or 0; the map of a panelled operand gives
    [n, k...]: its column, then its reduction indices.

    `bounded` gives, for a and b, the dimensions along which places may lie outside of the operand; elements there are zero.

    On CPUs, `registers` gives [rows, vectors, lanes] of the tile whose sums stay in vector registers (none: plain loops), and `step` the
    reduction points of one piece, if the reduction is cut so that its factors stay in cache. `finish`: the task.foreach behind it is
    done on the sums of each tile, which are not stored.

    On targets with threads, `warps` gives how many warps share the [rows, columns, depth] of the box (depth: each has a part of the
    reduction), `step` the reduction points of one pipeline stage, `stages` how many stages are in shared memory at once, and `workspace`
    where they lie there. Atoms are those of `mlc.layout.fragments`, "fma.4x8.8x8" (a grid of lanes, each with a tile of sums:
    `mlc.layout.fma`) and "wgmma.m64k16", which has one more warp, the kernel's last, which brings the stages by TMA; c may lie where the
    stages do, and takes their place.

    Example:
      "task.mma"(%a, %b, %c, %o) {atom = "fma", extents = [16, 64, 256], reductions = 1, maps = [
        affine_map<(m, n, k, o) -> (m + o, k)>, affine_map<(m, n, k, o) -> (k, n)>, affine_map<(m, n, k, o) -> (m + o, n)>]}
        : (memref<32x256xf32>, memref<256x64xf32>, memref<32x64xf32>, index) -> ()
      "task.mma"(%a, %b, %c, %o) {atom = "fma", extents = [16, 64, 256], reductions = 1, warps = [1, 4, 1], step = 16, stages = 3, maps = [
        affine_map<(m, n, k, o) -> (m + o, k)>, affine_map<(m, n, k, o) -> (k, n)>, affine_map<(m, n, k, o) -> (m + o, n)>]}
        : (memref<32x256xf32>, memref<256x64xf32>, memref<32x64xf32>, index) -> ()
    """

    a: Operand
    b: Operand
    c: Operand
    offsets: Operands
    atom: str
    extents: list
    reductions: int
    maps: list
    panels: list = [0, 0]
    bounded: list = [[], []]
    codes: list = []
    warps: list | None = None
    step: int | None = None
    stages: int | None = None
    workspace: int = 0
    registers: list | None = None
    finish: bool = False

    def check(self) -> None:
        if not 0 < self.reductions < len(self.extents) + 1 or len(self.maps) != 3:
            raise VerifyError(f"has {self.reductions} reductions of {len(self.extents)} dimensions and {len(self.maps)} maps")
        if self.warps is not None and (len(self.warps) != 3 or any(not isinstance(n, int) or n < 1 for n in self.warps)):
            raise VerifyError(f"has warps {self.warps}, expected three positive counts: rows, columns, depth")
        if self.registers is not None and (len(self.registers) != 3 or any(not isinstance(n, int) or n < 1 for n in self.registers)):
            raise VerifyError(f"has registers {self.registers}, expected three positive counts: rows, vectors, lanes")
        if len(self.codes) not in (0, 2) or any(name not in BY_NAME or not BY_NAME[name].is_float8 for name in self.codes):
            raise VerifyError(f"has codes {self.codes}, expected the float8 types of a and b")
        for name, value in (("step", self.step), ("stages", self.stages)):
            if value is not None and value < 1:
                raise VerifyError(f"has {name} = {value}, expected at least 1")


class StreamOp(TaskOp, name="stream"):
    """A softmax between two products, streamed over the keys: for every point p of the first dimensions of a box,
    sum_k v[p, k] * exp(x[p, k] - max_k x) and the sum of these exponentials, with x = scale * score(p, k, sum_d q[p, d] * k[p, k, d]).

    Operands: q, k, v, then block offsets. `extents`: points, keys, depth. `maps` place q, k and v: they take all loop indices, then the
    offsets. `columns`: the loops of the points that v alone walks; rows of scores are the others. `seen` takes the same and gives
    numbers; where one of them is negative, x is -inf. No row of scores is ever whole: a maximum, a sum and the weighted sums of a row are
    kept, and scaled by exp(old max - new max) when the maximum grows. A maximum counts as the least finite number at least, so a row in
    which nothing is seen has sum 0. Regions: the score, of (points, key, product) -> yields a number; the result, of (points, weighted
    sum, sum) -> stores.

    On targets with threads, `atom` names the unit that multiplies, `warps` how many share the rows, `step` the keys of one pipeline stage,
    `stages` how many stages are in shared memory at once, `workspace` where they lie there.

    Example:
      "task.stream"(%q, %k, %v) ({
      ^bb0(%i: index, %e: index, %j: index, %s: f32):
        "task.yield"(%s) : (f32) -> ()
      }, {
      ^bb0(%i: index, %e: index, %sum: f32, %total: f32):
        %y = arith.divf %sum, %total : f32
        "task.store"(%y, %o, %i, %e) {map = affine_map<(i, e) -> (i, e)>} : (f32, memref<64x32xf32>, index, index) -> ()
        "task.yield"() : () -> ()
      }) {extents = [64, 32, 128, 32], columns = [1], scale = 0.125, seen = affine_map<(i, e, j, d) -> (i - j)>, maps = [
        affine_map<(i, e, j, d) -> (i, d)>, affine_map<(i, e, j, d) -> (j, d)>, affine_map<(i, e, j, d) -> (j, e)>]}
        : (memref<64x32xf16>, memref<128x32xf16>, memref<128x32xf16>) -> ()
    """

    q: Operand
    k: Operand
    v: Operand
    offsets: Operands
    extents: list
    columns: list
    maps: list
    seen: ir.Attribute
    scale: float = 1.0
    atom: str = ""
    warps: int | None = None
    step: int | None = None
    stages: int | None = None
    workspace: int = 0
    score: Region
    result: Region

    def check(self) -> None:
        points = len(self.extents) - 2
        if points < 1 or len(self.maps) != 3:
            raise VerifyError(f"has {len(self.extents)} dimensions and {len(self.maps)} maps, expected points, keys, depth and 3 maps")
        if any(not isinstance(c, int) or not 0 <= c < points for c in self.columns):
            raise VerifyError(f"has columns {self.columns} of {points} point dimensions")
        for region, count in ((self.score, points + 2), (self.result, points + 2)):
            if len(region.blocks[0].arguments) != count:
                raise VerifyError(f"has a region of {len(region.blocks[0].arguments)} arguments, expected {count}")


class BarrierOp(TaskOp, name="barrier"):
    """In the plan (scope "grid"): every block of the launches before it has ended, so what they read may change. Between the phases of a
    kernel (scope "block" or "cluster"): all threads of the block, or of all blocks, have done what stands before it, and see each other's
    writes.

    Inside a phase the order of the ops is the order of their effects: what barriers of a block that takes is the lowering's affair.

    Example: "task.barrier"() {scope = "grid"} : () -> ()
    """

    scope: str

    def check(self) -> None:
        parent = self.operation.parent
        while parent is not None and parent.name in ("scf.for", "scf.if", "scf.while"):
            parent = parent.parent
        scopes = ("block", "cluster") if parent is not None and parent.name == "task.kernel" else ("grid",)
        if self.scope not in scopes:
            raise VerifyError(f"has scope '{self.scope}', expected {' or '.join(map(repr, scopes))} here")


class BufferOp(TaskOp, name="buffer"):
    """Plan: `offset` bytes into the arena.

    Example: %t = "task.buffer"() {offset = 4096} : () -> memref<64xf32>
    """

    offset: int
    y: Result


class WeightOp(TaskOp, name="weight"):
    """Plan: a weight by its key.

    Example: %w = "task.weight"() {key = "fc.weight"} : () -> memref<10x4xf32>
    """

    key: str
    y: Result


class ConstantOp(TaskOp, name="constant"):
    """Plan: a small constant tensor.

    Example: %c = "task.constant"() {value = dense<[1.0, 2.0]> : tensor<2xf32>} : () -> memref<2xf32>
    """

    value: ir.Attribute
    y: Result


class SetOp(TaskOp, name="set"):
    """Plan: stores one scalar in a one-element buffer; later ops see it.

    Example: "task.set"(%i, %x) : (i64, memref<i64>) -> ()
    """

    value: Operand
    target: Operand


class SliceOp(TaskOp, name="slice"):
    """Plan: slice `i` of a buffer along its first dimension (which is dropped).

    Example: %s = "task.slice"(%x, %i) : (memref<8x4xf32>, index) -> memref<4xf32>
    """

    x: Operand
    i: Operand
    y: Result


class ViewOp(TaskOp, name="view"):
    """Plan: the same bytes under another static shape.

    Example: %v = "task.view"(%x) : (memref<2x3xf32>) -> memref<6xf32>
    """

    x: Operand
    y: Result


class LaunchOp(TaskOp, name="launch"):
    """Plan: runs every block of a kernel on its buffers; later launches see its writes.

    Example: "task.launch"(%x, %y) {kernel = "relu"} : (memref<64xf32>, memref<64xf32>) -> ()
    """

    buffers: Operands
    kernel: str
    nodes: list = []


class GroupOp(TaskOp, name="group"):
    """Plan: launches and loops that shall be one kernel of `blocks` blocks, which meet at barriers of `scope` instead of at launches.

    Example:
      "task.group"() ({
        "task.launch"(%x, %y) {kernel = "relu"} : (memref<64xf32>, memref<64xf32>) -> ()
        "task.launch"(%y, %z) {kernel = "relu"} : (memref<64xf32>, memref<64xf32>) -> ()
        "task.end"() : () -> ()
      }) {scope = "cluster", blocks = 4} : () -> ()
    """

    scope: str
    blocks: int
    body: Region

    def check(self) -> None:
        if self.scope not in ("block", "cluster"):
            raise VerifyError(f"has scope '{self.scope}', expected block or cluster")
        if self.blocks < 1 or (self.scope == "block" and self.blocks > 1):
            raise VerifyError(f"has {self.blocks} blocks in scope '{self.scope}'")


class CopyOp(TaskOp, name="copy"):
    """Copies whole buffers: operand i to operand n + i, for n sources followed by n targets of equal types; later ops see them.

    Example: "task.copy"(%x, %y) : (memref<64xf32>, memref<64xf32>) -> ()
    """

    buffers: Operands

    def check(self) -> None:
        types = [str(v.type) for v in self.operation.operands]
        n = len(types) // 2
        if not n or types[:n] != types[n:]:
            raise VerifyError(f"takes sources, then as many targets of equal types, got {types}")
