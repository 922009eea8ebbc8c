"""Linux calls that Python's standard library lacks: namespaces, mounts, capabilities, seccomp."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x0002_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000
_ALL_NEW = 0x7E02_0000  # every CLONE_NEW* flag that clone(2) takes
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP = 1, 4, 22
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_SIZE_OF_THREAD_ATTRIBUTES, _THREAD_STACK = 128, 8 << 20  # 56 or 64 bytes, by architecture
_F_ADD_SEALS, _ALL_SEALS = 1033, 15
_CAPABILITY_VERSION = 0x2008_0522


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def fork(flags: int = 0) -> int:
    """``os.fork``, optionally into new namespaces, without Python's hooks: three times cheaper.

    The hooks put right what other threads of the parent may have left (none here: one thread, before and after), and
    seed ``random`` anew, which would make verdicts differ from run to run.
    """
    pid: int = _libc.syscall(_CLONE[_COLUMN], flags | signal.SIGCHLD, 0, 0, 0, 0)
    _check(min(pid, 0), "clone")
    return pid


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """``mount(2)``."""
    arguments = [text.encode() for text in (source, target, kind)]
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), options.encode() or None), f"mount {kind} on {target}")


def set_dumpable(on: bool) -> None:
    """Whether other processes of the same user may trace this one and read its memory."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, int(on), 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def die_with_parent(number: int) -> None:
    """Have the kernel send this signal when the parent ends. A change of user clears it."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def no_new_privileges() -> None:
    """From here on no program file can raise privileges (setuid bits are ignored)."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")


def forbid_capabilities() -> None:
    """No program file can give this process or what it will start a capability that it has not."""
    for number in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            break  # past the kernel's last one, or not privileged in the first place


def drop_capabilities() -> None:
    """Give up all capabilities."""
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    _check(_libc.capset(header, bytes(24)), "capset")


def use_ordinary_thread_stacks() -> None:
    """8 MiB for each thread from here on, and not the limit of the first one's, which we have raised.

    Does nothing where the C library lacks the call (musl, whose threads have small stacks anyway).
    """
    if not hasattr(_libc, "pthread_setattr_default_np"):
        return
    attributes = ctypes.create_string_buffer(_SIZE_OF_THREAD_ATTRIBUTES)
    _libc.pthread_attr_init(attributes)
    _libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(_THREAD_STACK))
    _libc.pthread_setattr_default_np(attributes)
    _libc.pthread_attr_destroy(attributes)


def seal(descriptor: int) -> None:
    """Let no one change this memory file (``memfd_create``) any more."""
    _check(min(_libc.fcntl(descriptor, _F_ADD_SEALS, _ALL_SEALS), 0), "fcntl(F_ADD_SEALS)")


# Numbers of system calls: (x86-64, arm64). None: the architecture lacks it.
_REFUSED: dict[str, tuple[int | None, int]] = {
    # other processes' memory and descriptors
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "process_madvise": (440, 440),
    # name spaces and mounts (mount itself: by a filter of its own)
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # memory that no limit below counts: not a file of the private file system, not in any process's resident size
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "vmsplice": (278, 75),
    # large or often attacked parts of the kernel that no solution needs
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "fanotify_init": (300, 262),
    "modify_ldt": (154, -1),
    "personality": (135, 92),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "mbind": (237, 235),
    # the machine
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
}
# Harmless on the caller itself, a way to starve the supervisor (same user) on others: what each argument must be.
_ONLY_ON_ITSELF: dict[str, tuple[dict[int, int], tuple[int, int]]] = {
    "prlimit64": ({0: 0}, (302, 261)),
    "sched_setaffinity": ({0: 0}, (203, 122)),
    "sched_setscheduler": ({0: 0}, (144, 119)),
    "sched_setparam": ({0: 0}, (142, 118)),
    "sched_setattr": ({0: 0}, (314, 274)),
    "setpriority": ({0: 0, 1: 0}, (141, 140)),  # of a process, not of a group or a user
    "ioprio_set": ({0: 1, 1: 0}, (251, 30)),
}
_MMAP, _SHARED_AND_ANONYMOUS = (9, 222), 0x21  # memory that stays when no process maps it
_SETSOCKOPT, _SOL_SOCKET, _BUFFER_SIZES = (54, 208), 1, (7, 8, 32, 33)  # memory of the kernel's, in no process's size
_MOUNT = (165, 40)
_CLONE, _CLONE3, _SOCKET, _SOCKETPAIR = (56, 220), (435, 435), (41, 198), (53, 199)
_FAMILIES = (1, 2, 10)
"""unix, inet, inet6: the others (vsock, netlink, alg) are not all confined by the network namespace."""
_ARCHITECTURES = {"x86_64": (0xC000_003E, 0), "aarch64": (0xC000_00B7, 1)}
_LOAD, _EQUAL, _SET, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x54, 0x06
_ALLOW, _EPERM, _ENOSYS, _EAFNOSUPPORT = 0x7FFF_0000, 0x0005_0001, 0x0005_0026, 0x0005_0061


def _rule(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _argument(index: int) -> bytes:
    return _rule(_LOAD, 16 + 8 * index)


def _filter(architecture: int, column: int) -> bytes:
    """The seccomp program for every process: refuse what is listed, allow the rest."""
    number = _rule(_LOAD, 0)
    parts = [_rule(_LOAD, 4), _rule(_EQUAL, architecture, 1, 0), _rule(_RETURN, _EPERM), number]
    if column == 0:  # the x32 calls have other numbers
        parts += [_rule(_AT_LEAST, 0x4000_0000, 0, 1), _rule(_RETURN, _EPERM)]
    for numbers in _REFUSED.values():
        refused = numbers[column]
        if refused is not None and refused >= 0:
            parts += [_rule(_EQUAL, refused, 0, 1), _rule(_RETURN, _EPERM)]
    for wanted, calls in _ONLY_ON_ITSELF.values():
        parts.append(_rule(_EQUAL, calls[column], 0, 3 * len(wanted) + 1))
        for index, value in wanted.items():
            parts += [_argument(index), _rule(_EQUAL, value, 1, 0), _rule(_RETURN, _EPERM)]
        parts.append(number)
    parts += [_rule(_EQUAL, _MMAP[column], 0, 5), _argument(3), _rule(_AND, _SHARED_AND_ANONYMOUS)]
    parts += [_rule(_EQUAL, _SHARED_AND_ANONYMOUS, 0, 1), _rule(_RETURN, _EPERM), number]
    last = len(_BUFFER_SIZES) - 1
    parts += [_rule(_EQUAL, _SETSOCKOPT[column], 0, last + 6), _argument(1)]
    parts += [_rule(_EQUAL, _SOL_SOCKET, 0, last + 3), _argument(2)]
    parts += [_rule(_EQUAL, option, last - i, int(i == last)) for i, option in enumerate(_BUFFER_SIZES)]
    parts += [_rule(_RETURN, _EPERM), number]
    parts += [_rule(_EQUAL, _CLONE3[column], 0, 1), _rule(_RETURN, _ENOSYS)]  # its flags are out of a filter's sight
    for call in (_SOCKET[column], _SOCKETPAIR[column]):
        parts += [_rule(_EQUAL, call, 0, len(_FAMILIES) + 3), _argument(0)]
        parts += [_rule(_EQUAL, family, len(_FAMILIES) - i, 0) for i, family in enumerate(_FAMILIES)]
        parts += [_rule(_RETURN, _EAFNOSUPPORT), number]
    parts.append(_rule(_RETURN, _ALLOW))
    return b"".join(parts)


def _cell_filter(column: int) -> bytes:
    """The rest, which the maker of cells needs itself: no new namespaces, no mounts.

    Short, for it is installed anew in each cell: the kernel tries a filter on every number there is.
    """
    number = _rule(_LOAD, 0)
    parts = [number, _rule(_EQUAL, _MOUNT[column], 0, 1), _rule(_RETURN, _EPERM)]
    parts += [_rule(_EQUAL, _CLONE[column], 0, 3), _argument(0), _rule(_SET, _ALL_NEW, 0, 1), _rule(_RETURN, _EPERM)]
    return b"".join([*parts, _rule(_RETURN, _ALLOW)])


_MACHINE = _ARCHITECTURES.get(platform.machine())
_COLUMN = _MACHINE[1] if _MACHINE else 1  # newer architectures share arm64's numbers
_PROGRAMS = (_filter(*_MACHINE), _cell_filter(_COLUMN)) if _MACHINE else ()


def refuse_dangerous_calls() -> None:
    """For this process and all that it will start; does nothing where the architecture is not known."""
    if _PROGRAMS:
        _install(_PROGRAMS[0])


def refuse_namespaces() -> None:
    """The rest of it: no mounts and no namespaces from here on."""
    if _PROGRAMS:
        _install(_PROGRAMS[1])


def _install(text: bytes) -> None:
    program = ctypes.create_string_buffer(text, len(text))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(text) // 8, ctypes.addressof(program)))
    _check(_libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(header), 0, 0), "prctl(PR_SET_SECCOMP)")
