"""gpu.module to LLVM IR text for AMD GPUs, one text per kernel, so that kernels are compiled side by side."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mlc.backends.rocm.shuffles import lower_shuffles
from mlc.errors import CompilerError
from mlc.ir.mlir import MLIRError, PassManager, ir
from mlc.ir.mlir import llvm as llvm_dialect
from mlc.target import Target

_PIPELINE = (
    "builtin.module(gpu.module(canonicalize,cse,convert-vector-to-scf,expand-strided-metadata,lower-affine,arith-expand,canonicalize,cse,"
    "convert-scf-to-cf,convert-gpu-to-rocdl{{chipset={arch} index-bitwidth={index} runtime=HIP use-bare-ptr-memref-call-conv=1}},"
    "convert-ub-to-llvm,reconcile-unrealized-casts,canonicalize,cse))"
)
_GENERIC, _GLOBAL, _PRIVATE = "!llvm.ptr", "!llvm.ptr<1>", "!llvm.ptr<5>"
_SHARED_ALIGN = 16  # of a kernel's block memory: the widest access, 128 bits
_CODE_OBJECT_VERSION = 500  # what ROCm 6 makes itself; 6 is refused by its first releases

# Functions of ROCm's device library that upstream calls although LLVM has an instruction or an accurate sequence for them.
_NATIVE = {"floor": "llvm.intr.floor", "ceil": "llvm.intr.ceil", "fmod": "llvm.frem", "exp": "llvm.intr.exp", "exp2": "llvm.intr.exp2",
           "log": "llvm.intr.log", "log2": "llvm.intr.log2", "log10": "llvm.intr.log10"}
_NATIVE_F64 = ("floor", "ceil", "fmod")


@dataclass(frozen=True)
class Kernel:
    """One kernel as LLVM IR text. grid: blocks along x; threads: of a block; shared_bytes: of LDS, allocated by the code itself."""

    name: str
    text: str
    grid: int
    threads: int
    shared_bytes: int


def to_llvm_ir(module: ir.Module, target: Target) -> list[Kernel]:
    """Lowers the one gpu.module of `module` in place; kernels come back in the order of the module.

    A gpu.func takes bare pointers, and has the attributes `known_block_size`, `task.grid` and `task.shared`. Raises CompilerError where
    upstream refuses an operation, or where a kernel calls a function that no AMD GPU has.
    """
    container = _gpu_module(module)
    for function in _functions(container, "gpu.func"):
        lower_shuffles(function, target)
    pipeline = _PIPELINE.format(arch=target.arch, index=_index_bits(container))
    try:
        PassManager.parse(pipeline).run(module.operation)
    except MLIRError as error:
        raise CompilerError(f"kernels to LLVM for {target.arch}: {error}") from error
    container = _gpu_module(module)
    symbols = {op.attributes["sym_name"].value: op for op in _top(container) if "sym_name" in op.attributes}
    kernels = [op for op in _functions(container, "llvm.func") if "rocdl.kernel" in op.attributes]
    return [_kernel(op, symbols) for op in kernels]


def _gpu_module(module: ir.Module) -> ir.Operation:
    found = [view.operation for view in module.body.operations if view.operation.name == "gpu.module"]
    if len(found) != 1:
        raise CompilerError(f"found {len(found)} gpu.modules, expected one")
    return found[0]


def _top(container: ir.Operation) -> list[ir.Operation]:
    return [view.operation for view in container.regions[0].blocks[0].operations]


def _functions(container: ir.Operation, name: str) -> list[ir.Operation]:
    return [op for op in _top(container) if op.name == name]


def _index_bits(container: ir.Operation) -> int:
    """32 where every buffer's bytes can be counted in a signed 32-bit number: addresses are then a scalar base and a 32-bit offset."""
    limit = 1 << 31
    for function in _functions(container, "gpu.func"):
        for argument in function.regions[0].blocks[0].arguments:
            type_ = argument.type
            if not isinstance(type_, ir.MemRefType) or not type_.has_static_shape:
                return 64
            size = 1
            for extent in type_.shape:
                size *= extent
            if size * max(1, _element_bits(type_.element_type) // 8) >= limit:
                return 64
    return 32


def _element_bits(type_: ir.Type) -> int:
    if isinstance(type_, ir.VectorType):
        count = 1
        for extent in type_.shape:
            count *= extent
        return count * _element_bits(type_.element_type)
    return 64 if isinstance(type_, ir.IndexType) else type_.width


# -- one kernel ---------------------------------------------------------------------------------------------------------


def _kernel(function: ir.Operation, symbols: dict[str, ir.Operation]) -> Kernel:
    name, attributes = function.attributes["sym_name"].value, function.attributes
    shared, grid = _number(attributes["task.shared"]), _number(attributes["task.grid"])
    block = list(ir.DenseI32ArrayAttr(attributes["gpu.known_block_size"]))
    with function.location:
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            for used in _used(function, symbols):
                used.clone()
    for op in [view.operation for view in module.body.operations]:
        if op.name == "llvm.func":
            _native_functions(op)
            _address_spaces(op)
        elif op.attributes["addr_space"].value == 3:
            _size_shared(op, shared)
    _check(module, name)
    return Kernel(name, _portable(llvm_dialect.translate_module_to_llvmir(module.operation)), grid, block[0] * block[1] * block[2], shared)


def _number(attribute: ir.Attribute) -> int:
    return ir.IntegerAttr(attribute).value


def _used(function: ir.Operation, symbols: dict[str, ir.Operation]) -> list[ir.Operation]:
    """The kernel and every symbol it refers to, directly or not, in the order of the module."""
    found, todo = {function.attributes["sym_name"].value}, [function]
    while todo:
        for op in _walk(todo.pop()):
            for key in ("global_name", "callee"):
                if key in op.attributes and (name := ir.FlatSymbolRefAttr(op.attributes[key]).value) not in found and name in symbols:
                    found.add(name)
                    todo.append(symbols[name])
    return [op for name, op in symbols.items() if name in found]


def _walk(root: ir.Operation) -> Iterator[ir.Operation]:
    for region in root.regions:
        for block in region.blocks:
            for view in block.operations:
                yield view.operation
                yield from _walk(view.operation)


def _native_functions(function: ir.Operation) -> None:
    for op in list(_walk(function)):
        if op.name != "llvm.call" or "callee" not in op.attributes:
            continue
        match = re.fullmatch(r"__ocml_(\w+)_(f16|f32|f64)", ir.FlatSymbolRefAttr(op.attributes["callee"]).value)
        if match is None or match[1] not in (_NATIVE_F64 if match[2] == "f64" else _NATIVE):
            continue
        with op.location, ir.InsertionPoint(op):
            new = ir.Operation.create(_NATIVE[match[1]], results=[op.results[0].type], operands=list(op.operands))
        op.results[0].replace_all_uses_with(new.results[0])
        op.erase()


def _address_spaces(function: ir.Operation) -> None:
    """Buffers are in global memory (1) and the stack in private memory (5): said once here, LLVM carries it to every access."""
    if not function.regions[0].blocks:
        return
    entry = function.regions[0].blocks[0]
    generic, private = ir.Type.parse(_GENERIC), ir.Type.parse(_PRIVATE)
    with function.location, ir.InsertionPoint.at_block_begin(entry):
        for argument in entry.arguments:
            if str(argument.type) == _GENERIC:
                argument.set_type(ir.Type.parse(_GLOBAL))
                cast = ir.Operation.create("llvm.addrspacecast", results=[generic], operands=[argument])
                argument.replace_all_uses_except(cast.results[0], cast)
    type_ = str(ir.TypeAttr(function.attributes["function_type"]).value)
    function.attributes["function_type"] = ir.TypeAttr.get(ir.Type.parse(re.sub(r"!?(llvm\.)?\bptr\b(?!<)", r"ptr<1>", type_)))
    for op in [op for op in _walk(function) if op.name == "llvm.alloca"]:
        size = op.operands[0].owner
        with op.location, ir.InsertionPoint.at_block_begin(entry):  # elsewhere it would be a stack that grows at run time
            count = size.clone().results[0] if size.name == "llvm.mlir.constant" else op.operands[0]
            attributes = {name: op.attributes[name] for name in op.attributes}
            stack = ir.Operation.create("llvm.alloca", results=[private], operands=[count], attributes=attributes)
            new = stack.results[0]
            if str(op.results[0].type) == _GENERIC:
                new = ir.Operation.create("llvm.addrspacecast", results=[generic], operands=[new]).results[0]
        op.results[0].replace_all_uses_with(new)
        op.erase()


def _size_shared(op: ir.Operation, bytes_: int) -> None:
    """Dynamic block memory becomes an array of the size that the kernel asks for: then its code object says so by itself."""
    type_ = str(ir.TypeAttr(op.attributes["global_type"]).value)
    if type_ == "!llvm.array<0 x i8>":
        op.attributes["global_type"] = ir.TypeAttr.get(ir.Type.parse(f"!llvm.array<{bytes_} x i8>"))
        op.attributes["alignment"] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), _SHARED_ALIGN)


def _check(module: ir.Module, kernel: str) -> None:
    for op in _walk(module.operation):
        if not op.name.startswith(("llvm.", "rocdl.")):
            raise CompilerError(f"kernel '{kernel}': no lowering for '{op.name}' on AMD GPUs: {op}")
        if op.name == "llvm.func" and not op.regions[0].blocks:
            name = op.attributes["sym_name"].value
            raise CompilerError(f"kernel '{kernel}' calls {name}, which is in no library: AMD code objects are complete by themselves",
                                hint="expand-math must replace this function")


def _portable(text: str) -> str:
    """What the reader's LLVM spells otherwise, and the version of the code object."""
    text = re.sub(r'"uniform-work-group-size"(?!=)', '"uniform-work-group-size"="true"', text)
    flags = re.search(r"^!llvm\.module\.flags = !\{(.*)\}$", text, re.MULTILINE)
    numbers = [int(n) for n in re.findall(r"^!(\d+) = ", text, re.MULTILINE)]
    new = max(numbers, default=-1) + 1
    definition = f'\n!{new} = !{{i32 1, !"amdhsa_code_object_version", i32 {_CODE_OBJECT_VERSION}}}\n'
    if flags is None:
        return f"{text}\n!llvm.module.flags = !{{!{new}}}\n{definition}"
    return text[:flags.end(1)] + f", !{new}" + text[flags.end(1):] + definition
