"""STEP, the probes and the temporal fusions, behind one registry."""
