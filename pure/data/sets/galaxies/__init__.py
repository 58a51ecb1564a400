"""Simulated galaxies; no picture made here is an observation.

:mod:`pure.data.sets.galaxies.shapes` says what the ten classes look like, :mod:`pure.data.sets.galaxies.sky` how a
telescope sees them.  Both need GalSim (Rowe et al., 2015), an extra: ``pip install 'pure-networks[galaxies]'``.
"""
