"""Search experiments with ``nnictl``.

========================  ==========================================================================
:mod:`.task`              the task of one trial, and its parameters
:mod:`.selection`         the protocol: which task comes next, which architecture is the best
:mod:`.hyperparameters`   those with which the experiment searches
:mod:`.tuner`             the protocol as a tuner of NNI
:mod:`.assessor`          stops searches that have collapsed
:mod:`.class_args`        the checks of their ``classArgs``
:mod:`.registration`      makes them known to NNI
:mod:`.experiments`       finds and ends experiments
:mod:`.results`           the architectures that an experiment has found
:mod:`.comparison`        whether they are better than random ones
:mod:`.doctor`            what works in an NNI installation, what has rotted, what mends it
========================  ==========================================================================

The code of trials is in :mod:`nni_darts_ext.trial` and :mod:`nni_darts_ext.protocol`, the command line in
:mod:`nni_darts_ext.cli`.
"""
