"""Move the clock of another process while it runs.

libfaketime replaces functions of the C library, which nats-server, a Go program, does not call.
Every program reads the time through the vDSO, a page of code that the kernel maps into each
process. This module overwrites its functions with ones that call the kernel and add an offset to
the wall clock. The monotonic clock is unchanged. Requires Linux on x86-64, and permission to trace
the process.
"""

import os
import platform
import signal
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

PATCHES: Final[Mapping[bytes, str]] = {
    # mov eax, 228; syscall; test edi, edi; jne +7; add qword [rsi], offset; ret
    b"__vdso_clock_gettime": "b8e4000000 0f05 85ff 7507 488106{offset} c3",
    # mov eax, 96; syscall; test rdi, rdi; je +7; add qword [rdi], offset; ret
    b"__vdso_gettimeofday": "b860000000 0f05 4885ff 7407 488107{offset} c3",
    # mov eax, 201; syscall; add rax, offset; test rdi, rdi; je +3; mov [rdi], rax; ret
    b"__vdso_time": "b8c9000000 0f05 4805{offset} 4885ff 7403 488907 c3",
}
"""Machine code by function. ``offset`` is in seconds, four bytes, signed. In clock_gettime it is
added to clock 0 only, CLOCK_REALTIME."""

SYMBOL: Final = struct.Struct("<IBBHQQ")
"""Elf64_Sym: name, info, other, section, value, size."""
SECTION: Final = struct.Struct("<IIQQQQIIQQ")
"""Elf64_Shdr: name, type, flags, address, offset, size, link, info, align, entry size."""
DYNAMIC_SYMBOLS: Final = 11


class CannotMoveClock(Exception):
    """This machine or this process does not allow to move the clock."""


def is_possible() -> str | None:
    """Return why this machine cannot move clocks; None if it can."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "clocks can be moved on Linux on x86-64 only"
    try:
        move(os.getpid(), 0, stop=False)
    except (CannotMoveClock, OSError) as error:
        return f"clocks cannot be moved: {error}"
    return None


def move(pid: int, seconds: int, *, stop: bool = True) -> None:
    """Set the clock of a process off by ``seconds``; 0 corrects it.

    Raises:
        CannotMoveClock: the machine or the process does not allow it.
        OSError: the process has ended.
    """
    start, image = _vdso(pid)
    patches = _patches(image, seconds)
    if stop:
        _write_stopped(pid, start, len(image), patches)
    else:
        _write(pid, start, {})


def _vdso(pid: int) -> tuple[int, bytes]:
    """Return the address of the vDSO in a process, and the original code from this process."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.endswith("[vdso]"):
            start, end = (int(number, 16) for number in line.split()[0].split("-"))
            break
    else:
        raise ProcessLookupError("the process has no vDSO: it has ended")
    if pid == os.getpid():
        with Path("/proc/self/mem").open("rb", buffering=0) as memory:
            memory.seek(start)
            return start, memory.read(end - start)
    return start, _vdso(os.getpid())[1]


def _patches(image: bytes, seconds: int) -> dict[int, bytes]:
    """Return the code to write by offset in the vDSO."""
    offset = struct.pack("<i", seconds).hex()
    patches = {}
    for name, place, size in _functions(image):
        if name in PATCHES:
            code = bytes.fromhex(PATCHES[name].format(offset=offset))
            if len(code) > size:
                raise CannotMoveClock(f"{name.decode()} has only {size} bytes")
            patches[place] = code if seconds else image[place : place + len(code)]
    if patches.keys() and len(patches) == len(PATCHES):
        return patches
    raise CannotMoveClock("the vDSO lacks a function")


def _functions(image: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, offset and size of each function in an ELF image."""
    (sections_at,) = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3A)
    sections = [SECTION.unpack_from(image, sections_at + n * size) for n in range(count)]
    for section in sections:
        if section[1] == DYNAMIC_SYMBOLS:
            names = sections[section[6]][4]
            for at in range(section[4], section[4] + section[5], SYMBOL.size):
                name, _, _, _, value, length = SYMBOL.unpack_from(image, at)
                end = image.index(b"\0", names + name)
                yield image[names + name : end], value, length


def _write_stopped(pid: int, start: int, size: int, patches: Mapping[int, bytes]) -> None:
    """Stop the process and write while no thread runs the code to be overwritten."""
    for _ in range(200):
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(0.002)  # threads stop one by one
            if not any(_is_in(task, start, start + size) for task in _threads(pid)):
                _write(pid, start, patches)
                return
        finally:
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.001)
    raise CannotMoveClock("the process never leaves the functions of its clock")


def _threads(pid: int) -> Iterator[Path]:
    return Path(f"/proc/{pid}/task").iterdir()


def _is_in(thread: Path, start: int, end: int) -> bool:
    """Return whether a thread runs code in the range, or may because it has not stopped yet."""
    fields = (thread / "syscall").read_text().split()
    return fields == ["running"] or start <= int(fields[-1], 16) < end


def _write(pid: int, start: int, patches: Mapping[int, bytes]) -> None:
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        for place, code in patches.items():
            memory.seek(start + place)
            memory.write(code)
