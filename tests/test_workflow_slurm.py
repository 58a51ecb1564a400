"""The batch on a real Slurm, started here: opt in by ``PURE_TEST_SLURM=1``, as root, with Debian's slurm-wlm installed.

::

    apt-get install slurm-wlm munge
    PURE_TEST_SLURM=1 python -m pytest tests/test_workflow_slurm.py

It takes about ten minutes on two processor cores: Slurm counts time limits in minutes.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pure.records import RECORD_NAME, read_record

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.skipif(os.environ.get("PURE_TEST_SLURM") != "1", reason="opt in by PURE_TEST_SLURM=1"),
    pytest.mark.skipif(shutil.which("slurmctld") is None, reason="needs Debian's slurm-wlm"),
]

LIMIT, EPOCHS = int(os.environ.get("PURE_TEST_SLURM_LIMIT", "2")), int(os.environ.get("PURE_TEST_SLURM_EPOCHS", "200"))
"""Minutes, and epochs that take longer than they do; on a busy machine, starting a run takes minutes already."""

# What needs neither cgroups nor a database; cred_expire is how long a job that is queued again has to wait.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MinJobAge=300
ReturnToService=2
KillWait=20
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort=16817
SlurmdPort=16818
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=60 State=UP
"""


SLURM_CONF = Path("/etc/slurm/slurm.conf")
"""Snakemake's plugin drops the variable of this name, so only Slurm's own place is left."""


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cluster of this machine alone."""
    if SLURM_CONF.exists():
        pytest.skip(f"{SLURM_CONF} is there: this machine belongs to a cluster")
    folder = tmp_path_factory.mktemp("slurm")
    for each in (folder, *folder.parents[:3]):
        each.chmod(0o755)  # munged refuses a socket below folders that are closed or open to all
    munge = folder / "munge"
    munge.mkdir()
    key = munge / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    shutil.chown(munge, "munge", "munge")
    shutil.chown(key, "munge", "munge")
    socket_file = Path("/run/munge/pure-test.socket")
    socket_file.parent.mkdir(exist_ok=True)
    shutil.chown(socket_file.parent, "munge", "munge")
    socket_file.parent.chmod(0o755)
    files = [f"--socket={socket_file}", f"--key-file={key}"]
    files += [f"--{name}-file={munge / name}" for name in ("log", "pid", "seed")]
    configuration = CONFIGURATION.format(host=socket.gethostname(), folder=folder)
    configuration = configuration.replace(f"{folder}/munge.socket", str(socket_file))
    SLURM_CONF.write_text(configuration)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    commands = [
        [
            "runuser",
            "-u",
            "munge",
            "--",
            "munged",
            "--foreground",
            f"--socket={socket_file}",
            f"--key-file={key}",
            *files,
        ],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", socket.gethostname()],
    ]
    daemons = []
    try:
        for command in commands:
            daemons.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            time.sleep(2)
        wait_for(lambda: "idle" in slurm("sinfo", "-h", "-o", "%t"), 60, "an idle node")
        yield
    finally:
        slurm("scancel", "--me")
        wait_for(lambda: not slurm("squeue", "-h"), 60, "empty queue")
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)
        socket_file.unlink(missing_ok=True)
        SLURM_CONF.unlink()


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def wait_for(condition: object, seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, f"no {what} within {seconds} s"
        time.sleep(0.5)


EXPERIMENTS = {
    "batch": [
        {"recipe": "digits", "networks": ["pure20"], "seeds": [0, 1], "overrides": {"epochs": 24}},
        {"recipe": "digits", "networks": ["resnet20"], "seeds": [0], "overrides": {"epochs": EPOCHS}},
    ]
}
FOLDERS = ["digits/pure20/seed0", "digits/pure20/seed1", "digits/resnet20/seed0"]


def reproduce(folder: Path, profile: str, experiments: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "workflow/reproduce.py", "batch", "--profile", profile, "--device", "cpu"]
    command += ["--experiments", str(experiments), "--root", str(folder / "runs"), "--notebooks", str(folder / "books")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        return subprocess.Popen([*command, *options], cwd=ROOT, env=environment, stdout=log, stderr=log, text=True)


def test_a_batch_on_slurm_ends_complete_though_a_job_is_killed_and_one_meets_its_limit(
    cluster: None, tmp_path: Path
) -> None:
    experiments = tmp_path / "experiments.yaml"
    experiments.write_text(yaml.safe_dump(EXPERIMENTS))
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    undisturbed.mkdir()
    disturbed.mkdir()
    batch = reproduce(
        disturbed,
        "slurm",
        experiments,
        "--default-resources",
        "runtime=30",
        "mem_mb=500",
        "cpus_per_task=1",
        "slurm_extra='--signal=USR1@15'",
        "--set-resources",
        f"digits_resnet20_seed0:runtime={LIMIT}",  # Slurm warns up to half a minute earlier than told
    )
    try:
        killed = disturbed / "runs" / FOLDERS[1]
        wait_for(lambda: list(killed.glob("checkpoint*")) or batch.poll() is not None, 900, "checkpoint")
        assert batch.poll() is None, (disturbed / "log").read_text()
        job = next(line.split()[0] for line in slurm("squeue", "-h", "-o", "%i %k").splitlines() if "seed1" in line)
        slurm("scancel", "--signal=KILL", "--full", job)
        assert batch.wait(1500) == 0, (disturbed / "log").read_text()
    finally:
        batch.terminate()
        batch.wait(120)
    log = (disturbed / "log").read_text()
    assert "batch: 3 done, 0 skipped, 0 diverged, 0 stopped, 0 failed" in log
    assert "SIGUSR1 was received" in log  # the limit
    records = [read_record(disturbed / "runs" / folder / RECORD_NAME) for folder in FOLDERS]
    assert min(record.times.interruptions for record in records[1:]) > 0  # the killed one, and the one of the limit
    engine = Path(next(line for line in log.splitlines() if line.startswith("logs: ")).removeprefix("logs: "))
    assert "Trying to restart job" in (ROOT / engine / "snakemake.log").read_text()  # the killed one
    assert reproduce(undisturbed, "quick", experiments).wait(1500) == 0
    for record, folder in zip(records, FOLDERS, strict=True):
        assert record.outcome() == read_record(undisturbed / "runs" / folder / RECORD_NAME).outcome()
