"""The bilevel problem of DARTS (Liu et al., section 2.3): the gradients of both levels, and an indicator of overfitting.

========================  ==========================================================================
:mod:`.estimators`        the architecture gradient, first and second order
:mod:`.gradients`         gradients of a loss, and which parameters each step updates
:mod:`.curvature`         the dominant eigenvalue of the Hessian with respect to the logits
:mod:`.side_effects`      passes that do not change buffers, random states or modes
========================  ==========================================================================
"""
