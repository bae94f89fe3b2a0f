"""What the package offers ``nnictl``.

========================  ==========================================================================
:mod:`.task`              what one trial does, as its parameters say it
:mod:`.selection`         the protocol: which task comes next, which architecture is the best
:mod:`.tuner`             the protocol as a tuner of NNI
:mod:`.assessor`          stops searches that have collapsed
:mod:`.arguments`         the checks of their ``classArgs``
:mod:`.registration`      makes them known to NNI
:mod:`.experiments`       finds and ends experiments
:mod:`.results`           what an experiment has found
:mod:`.doctor`            what works in an NNI installation, what has rotted, what mends it
========================  ==========================================================================

The trials' side is :mod:`nni_darts_ext.trial` and :mod:`nni_darts_ext.protocol`; the command line :mod:`nni_darts_ext.cli`.
"""
