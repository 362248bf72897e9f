"""Averaging, sampler and trace in a plain torch loop: launchers/mpirun -n 2 -- python examples/own_loop.py"""

import sys
from pathlib import Path

import torch

import hvd_adam

inputs = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
targets = inputs.sum(1, keepdim=True)
torch.manual_seed(0)
model = torch.nn.Linear(8, 1)

world = hvd_adam.init()
sampler = hvd_adam.Sampler(len(inputs), local_batch=16, workers=4, seed=0)
optimizer = hvd_adam.DistributedOptimizer(
    hvd_adam.GenericAdam(model.parameters(), lr="0.5/sqrt(t)", betas=(0.9, "1 - 0.9/t^0.5")), world, workers=4
)
trace = hvd_adam.Trace(Path(sys.argv[1]) if world.rank == 0 and len(sys.argv) > 1 else None)
for step in range(1, 101):
    for worker in optimizer.workers(step):
        chosen = sampler.indices(step, worker)
        loss = torch.nn.functional.mse_loss(model(inputs[chosen]), targets[chosen])
        loss.backward()
        optimizer.add(loss, len(chosen))
    outcome = optimizer.step()
    optimizer.zero_grad()
    trace.write("step", step=step, loss=outcome.loss, grad_norm=outcome.grad_norm)
if world.rank == 0:
    sys.stdout.write(f"loss {outcome.loss:.2e} after {step} steps of {outcome.samples} samples on {world.size} ranks\n")
world.close()
