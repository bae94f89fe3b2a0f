"""The bilevel problem of DARTS (Liu et al., section 2.3): gradients of both levels, and what tells that the upper one overfits.

========================  ==========================================================================
:mod:`.estimators`        the architecture gradient, first and second order
:mod:`.gradients`         gradients, and what belongs to which step
:mod:`.curvature`         the dominant eigenvalue of the Hessian in the logits
:mod:`.side_effects`      passes that leave no trace
========================  ==========================================================================
"""
