"""LLVM: IR text from MLIR to optimised object code or assembly, through llvmlite. The one place that smooths version skew between the two."""

from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm

from mlc.errors import CompilerError


@cache
def _initialize() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@dataclass(frozen=True)
class Machine:
    """What code is generated for: LLVM triple, CPU name, feature string (`+avx2,+fma`), optimisation level 0..3."""

    triple: str
    cpu: str
    features: str
    opt_level: int = 3

    def target_machine(self) -> llvm.TargetMachine:
        _initialize()
        return llvm.Target.from_triple(self.triple).create_target_machine(cpu=self.cpu, features=self.features, opt=self.opt_level, reloc="pic",
                                                                          codemodel="small")


def optimise(text: str, machine: Machine) -> tuple[llvm.ModuleRef, llvm.TargetMachine]:
    """Parses IR text and runs LLVM's standard pipeline for the machine; CompilerError when LLVM refuses the text."""
    target_machine = machine.target_machine()
    try:
        module = llvm.parse_assembly(text)
        module.triple, module.data_layout = machine.triple, str(target_machine.target_data)
        module.verify()
    except RuntimeError as error:
        raise CompilerError(f"LLVM refuses the generated IR: {error}") from error
    tuning = llvm.create_pipeline_tuning_options(speed_level=machine.opt_level)
    tuning.loop_vectorization = tuning.slp_vectorization = machine.opt_level >= 2
    tuning.loop_interleaving = False
    builder = llvm.create_pass_builder(target_machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return module, target_machine


def object_code(text: str, machine: Machine) -> bytes:
    """IR text to a relocatable object."""
    module, target_machine = optimise(text, machine)
    return target_machine.emit_object(module)


def assembly(text: str, machine: Machine) -> str:
    """IR text to assembly text."""
    module, target_machine = optimise(text, machine)
    return target_machine.emit_assembly(module)
