"""The thread team: Python daemon threads that wait in machine code, without the GIL, and run an entry together with their caller.

Waiting in Python would cost each wake-up two hand-overs of the GIL per thread. So a worker thread makes one ctypes call in its life: into
`mlc_worker` below, which spins a little, then sleeps on a futex, runs the entry, and waits again. The caller makes one ctypes call per run.
"""

import ctypes
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager

from mlc.backends.cpu.pages import EXEC, READ, Pages
from mlc.errors import ResourceError

# x86-64 Linux, position independent. `CODE` is what LLVM assembles this to; test_runtime_cpu.py holds the two equal and prints the new
# bytes when they differ. Both use the one `_Control` block in %rbx. No wake-up is lost: a sleeper first announces itself with a locked
# instruction, then the kernel compares the word; the waker first changes the word with a locked instruction, then looks for sleepers.
ASSEMBLY = """
    .text
mlc_worker:                         # (control, tid): never returns
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    subq $24, %rsp                  # the stack stays 16-aligned at the call; (%rsp) is the entry's seventh argument
    movq %rdi, %rbx
    movq %rsi, %rbp
    xorl %r12d, %r12d               # the last run seen
.Lidle:
    movl 8(%rbx), %r13d
.Lround:
    movl $32, %ecx
.Lspin:
    cmpl %r12d, (%rbx)
    jne .Lgo
    pause
    decl %ecx
    jnz .Lspin
    movl $24, %eax                  # sched_yield(): the caller may be waiting for this very core
    syscall
    decl %r13d
    jg .Lround
    lock incl 4(%rbx)
    movl $202, %eax                 # futex(&run, WAIT_PRIVATE, seen, no timeout); whatever it returns, look again
    movq %rbx, %rdi
    movl $128, %esi
    movl %r12d, %edx
    xorl %r10d, %r10d
    syscall
    lock decl 4(%rbx)
    jmp .Lidle
.Lgo:
    movl (%rbx), %r12d
    movq 176(%rbx), %rax
    movq %rax, (%rsp)
    movq 136(%rbx), %rdi
    movq 144(%rbx), %rsi
    movq 152(%rbx), %rdx
    movq 160(%rbx), %rcx
    movq %rbp, %r8
    movq 168(%rbx), %r9
    callq *128(%rbx)
    lock decl 64(%rbx)              # the last one out wakes the caller if it sleeps
    jnz .Lidle
    cmpl $0, 68(%rbx)
    je .Lidle
    movl $202, %eax                 # futex(&pending, WAKE_PRIVATE, 1)
    leaq 64(%rbx), %rdi
    movl $129, %esi
    movl $1, %edx
    syscall
    jmp .Lidle

    .p2align 4
mlc_run:                            # (control): returns when every thread has left the entry
    pushq %rbx
    pushq %rbp
    subq $8, %rsp
    movq %rdi, %rbx
    movl 168(%rbx), %eax
    decl %eax
    movl %eax, 64(%rbx)
    movl $0, 68(%rbx)
    lock incl (%rbx)
    cmpl $0, 4(%rbx)
    je .Lrun
    movl $202, %eax                 # futex(&run, WAKE_PRIVATE, all)
    movq %rbx, %rdi
    movl $129, %esi
    movl $0x7fffffff, %edx
    syscall
.Lrun:
    movq 176(%rbx), %rax
    movq %rax, (%rsp)
    movq 136(%rbx), %rdi
    movq 144(%rbx), %rsi
    movq 152(%rbx), %rdx
    movq 160(%rbx), %rcx
    xorl %r8d, %r8d
    movq 168(%rbx), %r9
    callq *128(%rbx)
.Lfinish:
    movl 8(%rbx), %ebp
.Lturn:
    movl $32, %ecx
.Lpoll:
    cmpl $0, 64(%rbx)
    je .Ldone
    pause
    decl %ecx
    jnz .Lpoll
    movl $24, %eax                  # sched_yield()
    syscall
    decl %ebp
    jg .Lturn
    movl $1, %eax
    xchgl %eax, 68(%rbx)
    movl 64(%rbx), %edx
    testl %edx, %edx
    je .Ldone
    movl $202, %eax                 # futex(&pending, WAIT_PRIVATE, pending, no timeout)
    leaq 64(%rbx), %rdi
    movl $128, %esi
    xorl %r10d, %r10d
    syscall
    jmp .Lfinish
.Ldone:
    addq $8, %rsp
    popq %rbp
    popq %rbx
    retq
"""
CODE = bytes.fromhex(
    "5355415441554883ec184889fb4889f54531e4448b6b08b9200000004439237531f390ffc975f5b8180000000f0541ffcd7fe4f0ff4304b8ca0000004889dfbe"
    "800000004489e24531d20f05f0ff4b04ebc1448b23488b83b000000048890424488bbb88000000488bb390000000488b9398000000488b8ba00000004989e84c"
    "8b8ba8000000ff9380000000f0ff4b407581837b44000f8477ffffffb8ca000000488d7b40be81000000ba010000000f05e95dffffff662e0f1f840000000000"
    "53554883ec084889fb8b83a8000000ffc8894340c7434400000000f0ff03837b04007414b8ca0000004889dfbe81000000baffffff7f0f05488b83b000000048"
    "890424488bbb88000000488bb390000000488b9398000000488b8ba00000004531c04c8b8ba8000000ff93800000008b6b08b920000000837b40007435f390ff"
    "c975f4b8180000000f05ffcd7fe4b8010000008743448b534085d27415b8ca000000488d7b40be800000004531d20f05ebbd4883c4085d5bc3"
)
RUN_OFFSET = 192  # of mlc_run in CODE

_sched_getcpu = ctypes.PyDLL(None).sched_getcpu  # PyDLL: too quick to be worth giving up the GIL
SPINS = 64  # rounds of 32 pauses and a yield before a thread sleeps: about 100 us, enough to stay awake between back-to-back calls


class _Control(ctypes.Structure):
    """What a run hands to the team: three parts, each on its own cache lines. Offsets are those in ASSEMBLY."""

    _fields_ = (
        ("run", ctypes.c_uint32), ("sleepers", ctypes.c_uint32), ("spins", ctypes.c_uint32), ("_0", ctypes.c_ubyte * 52),
        ("pending", ctypes.c_uint32), ("waiting", ctypes.c_uint32), ("_1", ctypes.c_ubyte * 56),
        ("entry", ctypes.c_void_p), ("inputs", ctypes.c_void_p), ("outputs", ctypes.c_void_p), ("weights", ctypes.c_void_p),
        ("arena", ctypes.c_void_p), ("nthreads", ctypes.c_int64), ("sync", ctypes.c_void_p),
    )


class Team:
    """`size` threads, the caller among them. One run at a time: `lease` sees to it.

    Raises ResourceError if the system gives no more threads.
    """

    def __init__(self, size: int) -> None:
        global _run, _worker
        if _run is None or _worker is None:
            code = Pages(len(CODE), forever=True)
            code.write(0, CODE)
            code.protect(0, code.size, READ | EXEC)
            _worker = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(code.address)
            _run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code.address + RUN_OFFSET)
        self.size = size
        # Workers look at this block until the process ends, past the death of every Python object.
        self._address = Pages(ctypes.sizeof(_Control), forever=True).address
        self._control = _Control.from_address(self._address)
        self._control.nthreads = size
        self._control.spins = SPINS if size <= len(os.sched_getaffinity(0)) else 0  # spinning would keep the others off the cores
        self._run = _run
        self._core = -1  # where the caller was at the last run
        workers = [threading.Thread(target=_worker, args=(self._address, tid), name=f"mlc-worker-{tid}", daemon=True)
                   for tid in range(1, size)]
        try:
            for worker in workers:
                worker.start()
        except RuntimeError as e:
            raise ResourceError(f"cannot start {size} threads: {e}", hint="ask for fewer: load(..., threads=n) or MLC_NUM_THREADS") from e
        self._workers = [worker.native_id for worker in workers]

    def run(self, entry: int, inputs: int, outputs: int, weights: int, arena: int, sync: int) -> None:
        """Calls `entry` in every thread of the team and returns when all have left it. Arguments are addresses."""
        if (core := _sched_getcpu()) != self._core:
            self._avoid(core)
        c = self._control
        c.entry, c.inputs, c.outputs, c.weights, c.arena, c.sync = entry, inputs, outputs, weights, arena, sync
        self._run(self._address)

    def _avoid(self, core: int) -> None:
        """Keeps the workers off the caller's core. Linux likes to wake a thread where its waker runs; there it would wait until the caller
        is through with its own share, or until the next load balancing milliseconds later."""
        self._core = core
        others = os.sched_getaffinity(0) - {core}
        if len(others) < self.size - 1:
            return
        for worker in self._workers:
            try:
                os.sched_setaffinity(worker or 0, others)
            except OSError:  # a sandbox forbids it: slower, not wrong
                return


_worker = None  # the two functions in CODE, mapped on first use
_run = None
_idle: dict[int, list[Team]] = {}  # by size; the last one used is on top, and may still be spinning


@contextmanager
def lease(size: int) -> Generator[Team]:
    """A team of `size` threads for one run: an idle one of this process if there is one. Executables that run at the same time get
    different teams, those that take turns share one."""
    idle = _idle.setdefault(size, [])
    try:
        team = idle.pop()  # atomic under the GIL, so no lock that a fork could leave held
    except IndexError:
        team = Team(size)
    yield team
    idle.append(team)  # not in a finally: a team whose run did not return is not idle


# A forked child has the memory of the teams but none of their threads.
os.register_at_fork(after_in_child=_idle.clear)
