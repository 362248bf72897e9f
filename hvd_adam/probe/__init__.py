"""A short run that tells how far a task will scale: noise scale, curvature, elbow. Importing it imports no torch."""
