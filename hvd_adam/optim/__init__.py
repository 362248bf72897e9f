"""GenericAdam, and the averaging of gradients over the ranks of a job."""
