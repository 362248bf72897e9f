"""The theory as numbers: the sufficient condition, the bounds, and problems with known answers. No torch."""
