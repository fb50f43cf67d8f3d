"""PostgreSQL's server settings, derived from the machine: one place for the embedded and the Docker server.

Durability is never traded: `fsync`, `synchronous_commit` and `full_page_writes` stay on. `wal_level=minimal`
leaves out what only replicas need, so that rows loaded into a table made in the same transaction are written
once; such a table is synced to disk at commit.
"""

import os
import shutil
from pathlib import Path

MIB = 1024**2
GIB = 1024**3


def machine_memory() -> int:
    """Bytes of memory this process may use: the machine's, or its control group's limit when that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            memory = min(memory, int(Path(limit).read_text()))
        except (OSError, ValueError):
            continue
    return memory


def machine_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def server_settings(memory: int, cores: int, *, lz4: bool) -> dict[str, str]:
    """Server settings for a machine of `memory` bytes and `cores` cores, which the pipeline shares.

    `lz4`: whether the server was built with LZ4.
    """

    def share(part: int, least: int, most: int) -> str:
        return f"{min(max(memory // part, least), most) // MIB}MB"

    return {
        # memory
        "shared_buffers": share(8, 64 * MIB, 8 * GIB),
        "effective_cache_size": share(2, 256 * MIB, 256 * GIB),
        "work_mem": share(96, 8 * MIB, 512 * MIB),
        "maintenance_work_mem": share(16, 64 * MIB, 2 * GIB),
        # the log of changes: few, spread checkpoints; nothing for replicas
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": share(3, 512 * MIB, 8 * GIB),
        # what a run's phase logs fits in, and the log's writer takes it to the disk on another core meanwhile; to
        # fill a new file with zeros first would write everything twice
        "wal_buffers": share(192, 16 * MIB, 128 * MIB),
        "wal_writer_delay": "10ms",
        "wal_init_zero": "off",
        "wal_compression": "lz4" if lz4 else "off",
        "checkpoint_timeout": "15min",
        # planner: solid-state disks, statements of seconds rather than of minutes
        "random_page_cost": "1.1",
        "jit": "off",
        # both cores for one statement
        "max_worker_processes": str(cores + 8),
        "max_parallel_workers": str(cores),
        "max_parallel_workers_per_gather": str(min(cores, 8)),
        "max_parallel_maintenance_workers": str(min(cores, 8)),
        # phases analyze what they load; autovacuum follows behind, unhurried but to the end
        "autovacuum_max_workers": "2",
        "autovacuum_vacuum_cost_limit": "1000",
        # a statement whose client was killed ends too, and gives back its locks
        "client_connection_check_interval": "1s",
        # without the rows that errors quote
        "log_error_verbosity": "terse",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }


def shared_memory_type(memory: int) -> str:
    """`posix`, or `mmap` where /dev/shm is too small for parallel joins (64 MB is usual in a container)."""
    try:
        room = shutil.disk_usage("/dev/shm").total
    except OSError:
        return "mmap"
    return "posix" if room >= memory // 8 else "mmap"


def as_arguments(settings: dict[str, str]) -> list[str]:
    """The settings as arguments of the `postgres` command."""
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
