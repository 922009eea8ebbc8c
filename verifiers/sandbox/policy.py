"""What a sandbox may see, as arguments for bubblewrap, and whether this machine can make one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from verifiers.base import VerifierError

INSIDE = Path(__file__).parent / "inside"
_MOUNTED = "/run/verifier"
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",  # a verdict must not depend on which process gave it
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONSAFEPATH": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
}
_PROBE_LIMIT_S = 30.0
UNPRIVILEGED = 65534
INSTALL_HINT = (
    "install bubblewrap (apt-get install bubblewrap, dnf install bubblewrap or pacman -S bubblewrap) and allow user "
    "namespaces (sysctl user.max_user_namespaces above 0; in a container: --security-opt seccomp=unconfined), or "
    'set sandbox: "none" to run model-written code without isolation'
)


class SandboxUnavailableError(VerifierError):
    """This machine cannot isolate; the message says what to install."""


class Command(NamedTuple):
    """How to start a server process."""

    arguments: list[str]
    environment: dict[str, str]
    userns: bool
    """Whether it makes a user namespace (and so is not really root inside)."""
    user: int | None = None
    """Who starts it, where that is not this process's own user: root's own files stay root's in a user namespace."""


def _boot_code(folder: str) -> str:
    """Import the server under its own name, with empty packages above it: those here would import pydantic and more."""
    return (
        "import sys, types\n"
        'for name in ("verifiers", "verifiers.sandbox"):\n'
        "    sys.modules[name] = types.ModuleType(name)\n"
        f"    sys.modules[name].__path__ = [{folder!r}]\n"
        "from verifiers.sandbox.inside.server import main\n"
        "main(sys.argv[1:])\n"
    )


def _interpreter(folder: str) -> list[str]:
    return [_executable(), "-s", "-P", "-B", "-c", _boot_code(folder)]


def _executable() -> str:
    """The interpreter by a name that is there inside: a link from elsewhere is not."""
    path = Path(sys.executable)
    seen = ("/usr", "/bin", *prefixes())
    return str(path if any(path.is_relative_to(prefix) for prefix in seen) else path.resolve())


def unconfined() -> Command:
    """The server without any isolation: a cleaned environment and nothing else."""
    return Command(_interpreter(str(INSIDE.parent)), dict(_ENVIRONMENT), False)


def prefixes() -> list[str]:
    """Folders outside of /usr that the interpreter needs."""
    wanted = [Path(sys.prefix), Path(sys.base_prefix)]
    if Path.home().resolve() in [path.resolve() for path in wanted]:
        raise SandboxUnavailableError(
            "this Python is installed into a home folder itself, which would have to be shown"
        )
    found: list[Path] = []
    for path in sorted({path.resolve() for path in wanted} | set(wanted), key=lambda path: len(path.parts)):
        if path == Path("/") or path.is_relative_to("/usr") or any(path.is_relative_to(other) for other in found):
            continue
        found.append(path)
    return [str(path) for path in found]


def confined(userns: bool, tmp_bytes: int) -> Command:
    """bubblewrap around the server.

    ``userns``: make a user namespace, as an ordinary user. In one of root's the solution would still be root for all
    that belongs to root outside, so root becomes another user first.
    """
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SandboxUnavailableError(f"bubblewrap is not installed; {INSTALL_HINT}")
    arguments = [bwrap, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    arguments += ["--unshare-user"] if userns else []
    arguments += ["--die-with-parent", "--new-session", "--as-pid-1", "--hostname", "sandbox", "--clearenv"]
    for name, value in _ENVIRONMENT.items():
        arguments += ["--setenv", name, value]
    arguments += ["--ro-bind", "/usr", "/usr"]
    for folder in _SYSTEM:
        path = Path(folder)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), folder]
        elif path.is_dir():
            arguments += ["--ro-bind", folder, folder]
    for name in ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives"):
        arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    half = str(tmp_bytes // 2)
    arguments += ["--perms", "1777", "--size", half, "--tmpfs", "/tmp"]
    for prefix in prefixes():
        arguments += [*_folders_above(prefix), "--ro-bind", prefix, prefix]
    # What is mapped from /dev/zero stays in memory without being any process's: a zero-length one has to do.
    arguments += [
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--dev-bind",
        "/dev/null",
        "/dev/zero",
        "--perms",
        "1777",
        "--size",
        half,
        "--tmpfs",
        "/dev/shm",
    ]
    arguments += [*_folders_above(f"{_MOUNTED}/inside"), "--ro-bind", str(INSIDE), f"{_MOUNTED}/inside"]
    arguments += ["--remount-ro", "/dev", "--remount-ro", "/"]
    arguments += ["--chdir", "/tmp", "--", *_interpreter(_MOUNTED)]
    return Command(arguments, {}, userns, UNPRIVILEGED if userns and os.getuid() == 0 else None)


def identity(command: Command) -> dict[str, Any]:
    """Arguments of ``subprocess.Popen``: whom to become first."""
    return {} if command.user is None else {"user": command.user, "group": command.user, "extra_groups": []}


def _folders_above(path: str) -> list[str]:
    """Make the folders down to a mount point ourselves: bubblewrap's own would be open to root only."""
    above = [str(parent) for parent in reversed(Path(path).parents) if str(parent) not in ("/", "/tmp", "/usr")]
    return [argument for parent in above for argument in ("--perms", "0755", "--dir", parent)]


def kept_under_tmp() -> list[str]:
    """Interpreter folders that a fresh /tmp would hide."""
    return [prefix for prefix in prefixes() if Path(prefix).is_relative_to("/tmp")]


def works(command: Command) -> str | None:
    """Why the command cannot start a server (as the user that it becomes); None where it can."""
    settings = json.dumps({"confined": True, "userns": command.userns})
    probe = [*command.arguments, "probe", "0", settings]
    try:
        done = subprocess.run(
            probe,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_LIMIT_S,
            env=command.environment,
            **identity(command),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip() or f"exit status {done.returncode}")
