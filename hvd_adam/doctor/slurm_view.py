"""What Slurm says of a job."""

from __future__ import annotations

import shutil
import subprocess

PATIENCE = 10.0  # seconds for a controller that may be down


def of_job(job: str | None) -> list[str]:
    """One line: its state, nodes and reason; none where there is no job or no Slurm."""
    if not job or shutil.which("squeue") is None:
        return []
    command = ["squeue", "--noheader", f"--jobs={job}", "--format=%T on %N, %r"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return [f"Slurm does not answer within {PATIENCE:g} s about job {job}"]
    if done.returncode and "invalid job id" not in done.stderr.lower():
        why = (done.stderr.strip().splitlines() or [f"squeue ended with {done.returncode}"])[-1]
        return [f"Slurm does not answer about job {job}: {why}"]
    said = done.stdout.strip() or "no longer in the queue"
    return [f"Slurm says of job {job}: {said}"]
