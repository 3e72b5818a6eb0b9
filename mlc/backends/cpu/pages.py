"""Memory pages under our own protection: where loaded machine code and its data live."""

import ctypes
import mmap
import os
import weakref

from mlc.errors import ResourceError

PAGE = mmap.PAGESIZE
READ, WRITE, EXEC = mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_EXEC
_MAP_32BIT = 0x40  # x86-64 Linux: the kernel picks an address below 2 GiB

_libc = ctypes.CDLL(None, use_errno=True)  # our own handle: setting argtypes here does not affect other users of libc
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_MAP_FAILED = ctypes.c_void_p(-1).value


class Pages:
    """Zeroed private pages, readable and writable until `protect`; given back when this object dies.

    size: bytes, rounded up to whole pages. low: below 2 GiB, for code with absolute 32-bit addresses.
    forever: never given back, for what threads may still touch while the interpreter shuts down.
    Raises ResourceError if the system has no such memory.
    """

    def __init__(self, size: int, *, low: bool = False, forever: bool = False) -> None:
        self.size = max(PAGE, -(-size // PAGE) * PAGE)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | (_MAP_32BIT if low else 0)
        address = _libc.mmap(None, self.size, READ | WRITE, flags, -1, 0)
        if address is None or address == _MAP_FAILED:
            raise ResourceError(f"cannot map {self.size} bytes for machine code: {os.strerror(ctypes.get_errno())}")
        self.address: int = address
        if not forever:
            # At interpreter exit the process goes away anyway, and a daemon thread may still be running in these pages.
            weakref.finalize(self, _libc.munmap, address, self.size).atexit = False

    def view(self) -> "ctypes.Array[ctypes.c_ubyte]":
        """A buffer over the pages. It does not keep them alive, and writing after `protect` is a crash."""
        return (ctypes.c_ubyte * self.size).from_address(self.address)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Copies `data` to `offset` bytes from the start."""
        if offset < 0 or offset + len(data) > self.size:
            raise ValueError(f"{len(data)} bytes at {offset} do not fit {self.size}")
        self.view()[offset : offset + len(data)] = data

    def protect(self, offset: int, size: int, protection: int) -> None:
        """Sets the protection of whole pages. offset: a multiple of PAGE."""
        if size and _libc.mprotect(self.address + offset, size, protection):
            raise ResourceError(f"cannot protect {size} bytes of machine code: {os.strerror(ctypes.get_errno())}",
                                hint="a security policy of this machine may forbid executable memory (SELinux execmem, seccomp)")
