"""How an edge runs: the weighted sum of its candidates, with less time and memory than calling each of them takes.

========================  ==========================================================================
:mod:`.mixture`           the weighted sum of candidates that runs during the search (eq. 2)
:mod:`.plan`              what of that stays the same until something changes
:mod:`.layers`            a candidate as the layers that it is made of
:mod:`.calls`             plain layers as the functions that they call
:mod:`.convolutions`      convolutions replaced by equal ones: faster, or without overrunning memory
:mod:`.sharing`           what candidates and edges have in common, computed once
:mod:`.saved_tensors`     what a graph need not save, for it is cheap to compute again
:mod:`.recomputation`     an edge computed again in the backward pass instead of saved
:mod:`.compilation`       edges compiled
:mod:`.memory_format`     how images lie in memory
:mod:`.shapes`            what candidates return must be alike
:mod:`.overwriting`       inputs that a candidate writes over
========================  ==========================================================================
"""
