"""Random programs give numpy's results under every schedule: the compiler's, all legal merges, and tiles and levels drawn at random."""

import pytest
from arrays import agree
from harness import run_graph
from native import Schedule, chosen, compile_native
from programs import random_program
from schedules import at_random, merged

TARGETS = ("cpu", "cpu:x86-64-v3", "cpu", "cpu:x86-64-v2")


@pytest.mark.parametrize("seed", range(30))
def test_schedules_do_not_change_results(seed: int) -> None:
    program = random_program(seed, length=5 + seed % 5)
    schedules: list[Schedule] = [chosen, merged, at_random(2 * seed), at_random(2 * seed + 1)]
    for number, schedule in enumerate(schedules):
        native = compile_native(program.build, *program.inputs, schedule=schedule, target=TARGETS[seed % 4])
        try:
            agree(native(*program.inputs), program.expected())
        except AssertionError as error:
            raise AssertionError(f"schedule {number} of\n{program}\n{native.task}") from error


@pytest.mark.parametrize("seed", range(100, 105))
def test_native_agrees_with_upstream(seed: int) -> None:
    program = random_program(seed)
    agree(compile_native(program.build, *program.inputs)(*program.inputs), run_graph(program.build, *program.inputs))


def test_merging_all_makes_fewer_kernels() -> None:
    counts = {name: 0 for name in ("apart", "chosen", "merged")}
    for seed in range(200, 206):
        program = random_program(seed)
        for name, schedule in (("apart", lambda module, ctx: None), ("chosen", chosen), ("merged", merged)):
            counts[name] += compile_native(program.build, *program.inputs, schedule=schedule, opt_level=0).kernels
    assert counts["merged"] < counts["apart"] and counts["chosen"] < counts["apart"]
