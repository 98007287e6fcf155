"""What must be set before Python starts: the process begins again, once, with it."""

import os
import sys
from collections.abc import Sequence

HUGE_PAGES = "glibc.malloc.hugetlb"


def huge_pages() -> bool:
    """Whether glibc was told, when this process began, to put large buffers on huge pages."""
    return HUGE_PAGES in os.environ.get("GLIBC_TUNABLES", "")


def restart_with_huge_pages(argv: Sequence[str]) -> None:
    """Replaces this process by itself with huge pages; does nothing where it has them, or was asked not to.

    XLA on CPU takes its buffers from malloc and gives them back after each call, so that with small pages a training
    step spends a quarter of its time in page faults. glibc reads the setting only as a process starts.

    OpenBLAS, which solves and decomposes for JAX on a CPU, gets one thread then, unless the environment says otherwise:
    its threads spin after each call, and a training step with one solve took up to five times as long.
    """
    refused = {"--nohuge_pages", "--huge_pages=false"} & set(argv)
    if sys.platform != "linux" or huge_pages() or refused:
        return
    others = os.environ.get("GLIBC_TUNABLES")
    os.environ["GLIBC_TUNABLES"] = f"{others}:{HUGE_PAGES}=1" if others else f"{HUGE_PAGES}=1"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
