"""`hvd-adam doctor`: what is wrong with this machine, this environment and this job, and what cures it.

    gather (reads, starts other programs) -> Environment -> checks (pure) -> Finding -> command (prints, exit code)

Nothing here imports torch, Horovod or mpi4py: what they are is read from their files, so that the doctor
answers in under two seconds and also where they no longer load. Only `--run` starts two ranks that do.
"""
