"""A whole matrix product kernel for sm_90a made from the Hopper builders, down to PTX: what their tests compile."""

from dataclasses import dataclass, field

from mlc.backends.cuda.assemble import machine
from mlc.backends.llvm import assembly
from mlc.ir.context import make_context
from mlc.ir.mlir import PassManager, arith, gpu, ir, llvm
from mlc.passes.gpu.hopper.emit import add, advance, compare, div, i32_type, minimum, mul, rem, shared_pointer, value, when
from mlc.passes.gpu.hopper.epilogue import StripStore
from mlc.passes.gpu.hopper.product import Consumer, Place, Schedule, WarpGroupProduct
from mlc.passes.gpu.hopper.tma import MAP_BYTES, TENSOR_MAPS, TensorMap
from mlc.target import Target

_TO_LLVM = ("builtin.module(canonicalize,cse,gpu.module(convert-vector-to-scf,canonicalize,cse,loop-invariant-code-motion,"
            "convert-scf-to-cf,convert-gpu-to-nvvm{use-bare-ptr-memref-call-conv=1 index-bitwidth=32},convert-nvvm-to-llvm,"
            "canonicalize,cse,reconcile-unrealized-casts))")


@dataclass(frozen=True)
class Gemm:
    """c[m, n] = a @ b, 16-bit and row-major, with a [m, k], or [k, m] if not k-major, and b [n, k], or [k, n] if not k-major.

    blocks: how many take turns at the tiles.
    swath: rows of tiles that neighbouring blocks work on together, so that what they read is shared in L2.
    """

    m: int
    n: int
    k: int
    tile: tuple[int, int, int] = (128, 256, 64)
    stages: int = 4
    dtype: str = "f16"
    a_k_major: bool = True
    b_k_major: bool = True
    cluster: int = 1
    blocks: int = 132
    swath: int = 8
    staged: bool = True
    consumers: int = 2
    product: WarpGroupProduct = field(init=False)

    def __post_init__(self) -> None:
        tm, tn, tk = self.tile
        object.__setattr__(self, "product", WarpGroupProduct(tm, tn, tk, self.k, self.stages, self.dtype, self.a_k_major, self.b_k_major,
                                                             self.consumers, self.cluster))

    @property
    def tiles(self) -> tuple[int, int]:
        """Rows (rounded up to whole clusters) and columns of tiles."""
        rows = -(-self.m // self.tile[0])
        return -(-rows // self.cluster) * self.cluster, -(-self.n // self.tile[1])

    @property
    def grid(self) -> int:
        rows, columns = self.tiles
        return min(rows * columns, self.blocks) // self.cluster * self.cluster

    @property
    def scratch(self) -> int:
        return StripStore.bytes(self.consumers) if self.staged else 0

    @property
    def shared_bytes(self) -> int:
        return self.product.shared_bytes + self.scratch

    def maps(self) -> dict[str, TensorMap]:
        """Tensor maps of a, b and c."""
        a = (self.m, self.k) if self.a_k_major else (self.k, self.m)
        b = (self.n, self.k) if self.b_k_major else (self.k, self.n)
        return {"a": self.product.tensor_map("a", a, (a[1], 1)), "b": self.product.tensor_map("b", b, (b[1], 1)),
                "c": StripStore.tensor_map(self.dtype, (self.m, self.n), (self.n, 1))}

    # -- device code ------------------------------------------------------------------------------------------------
    def _schedule(self) -> Schedule:
        """Blocks take tiles in turn; tiles run down a swath of rows, then to the next column."""
        rows, columns = self.tiles
        units, swath = rows // self.cluster * columns, max(1, self.swath // self.cluster)  # a unit is a cluster's tiles
        block = arith.IndexCastOp(i32_type(), gpu.BlockIdOp(gpu.Dimension.x).result).result
        first, workers = div(block, self.cluster), self.grid // self.cluster
        count = div(add(units + workers - 1, mul(first, -1)), workers)

        def place(i: ir.Value) -> Place:
            unit = add(first, mul(i, workers))
            whole = swath * columns
            band, inside = div(unit, whole), rem(unit, whole)
            height = minimum(add(rows // self.cluster, mul(mul(band, swath), -1)), swath)
            row = add(mul(band, swath), rem(inside, height))
            return Place(value(mul(add(mul(row, self.cluster), rem(block, self.cluster)), self.tile[0])),
                         value(mul(div(inside, height), self.tile[1])))

        return Schedule(count, place)

    def _store_directly(self, consumer: Consumer, target: ir.Value) -> None:
        """Pairs of 16-bit elements, each where it belongs, if it is inside."""
        narrow = ir.F16Type.get() if self.dtype == "f16" else ir.BF16Type.get()

        def store(row: ir.Value, column: ir.Value, pair: tuple[ir.Value, ir.Value]) -> None:
            r, c = add(consumer.place.row, row), add(consumer.place.column, column)
            inside = arith.AndIOp(compare("ult", r, self.m), compare("ult", c, self.n)).result

            def write() -> None:
                address = advance(target, mul(add(mul(r, self.n), c), 2))
                for i, v in enumerate(pair):
                    llvm.StoreOp(arith.TruncFOp(narrow, v).result, advance(address, 2 * i))

            when(inside, write)

        consumer.for_each_pair(store)

    def module(self) -> ir.Module:
        """gpu.module @kernels with the kernel @gemm(a map, b map, c map, c)."""
        pointer = ir.Type.parse("!llvm.ptr")
        module = ir.Module.create()
        module.operation.attributes["gpu.container_module"] = ir.UnitAttr.get()
        with ir.InsertionPoint(module.body):
            kernels = ir.Operation.create("gpu.module", regions=1, attributes={"sym_name": ir.StringAttr.get("kernels")})
        with ir.InsertionPoint(kernels.regions[0].blocks.append()):
            func = gpu.GPUFuncOp(ir.FunctionType.get([pointer] * 4, []), sym_name="gemm", kernel=True,
                                 known_block_size=[self.product.threads, 1, 1])
        func.operation.attributes[TENSOR_MAPS] = ir.ArrayAttr.get([m.attribute(i, 0) for i, m in enumerate(self.maps().values())])
        i32 = i32_type()
        func.operation.attributes["nvvm.minctasm"] = ir.IntegerAttr.get(i32, 1)
        if self.cluster > 1:
            func.operation.attributes["nvvm.cluster_dim"] = ir.DenseI32ArrayAttr.get([self.cluster, 1, 1])
        block = func.operation.regions[0].blocks[0] if len(func.operation.regions[0].blocks) else func.operation.regions[0].blocks.append(
            *[pointer] * 4)
        a, b, c, raw = block.arguments
        with ir.InsertionPoint(block):
            self._body(a, b, c, raw)
            ir.Operation.create("gpu.return")
        return module

    def _body(self, a: ir.Value, b: ir.Value, c: ir.Value, raw: ir.Value) -> None:
        shared = gpu.DynamicSharedMemoryOp(ir.Type.parse("memref<?xi8, #gpu.address_space<workgroup>>")).result
        base = ir.Operation.create("memref.extract_aligned_pointer_as_index", results=[ir.IndexType.get()], operands=[shared]).result
        start = shared_pointer(arith.IndexCastOp(i32_type(), base).result)
        strips = advance(self.product.aligned(start), self.product.stages_bytes)
        strip_store = StripStore(self.dtype, self.tile[1], c, strips)
        epilogue = strip_store.emit if self.staged else lambda consumer: self._store_directly(consumer, raw)
        self.product.emit(start, a, b, self._schedule(), epilogue, strip_store.finish if self.staged else None, self.scratch)

    def ptx(self) -> str:
        """The kernel as PTX."""
        with make_context(), ir.Location.unknown():
            module = self.module()
            module.operation.verify()
            PassManager.parse(_TO_LLVM).run(module.operation)
            parent = next(op.operation for op in module.body.operations if op.operation.name == "gpu.module")
            for view in list(parent.regions[0].blocks[0].operations):
                _finish(view.operation)
                view.operation.move_before(parent)
            parent.erase()
            return assembly(llvm.translate_module_to_llvmir(module.operation), machine(Target.parse("cuda:sm_90a"), 3))


def _finish(op: ir.Operation) -> None:
    """Dynamic shared memory is external; tensor map parameters are constants passed by value, which no gpu.func can say."""
    if op.name == "llvm.mlir.global":
        op.attributes["linkage"] = ir.Attribute.parse("#llvm.linkage<external>")
    elif op.name == "llvm.func" and TENSOR_MAPS in op.attributes:
        maps = {d["argument"].value for d in op.attributes[TENSOR_MAPS]}
        by_value = {"llvm.byval": ir.TypeAttr.get(ir.Type.parse(f"!llvm.array<{MAP_BYTES} x i8>")), "nvvm.grid_constant": ir.UnitAttr.get(),
                    "llvm.align": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), 64)}
        arguments = len(op.regions[0].blocks[0].arguments)
        op.attributes["arg_attrs"] = ir.ArrayAttr.get([ir.DictAttr.get(by_value if i in maps else {}) for i in range(arguments)])
