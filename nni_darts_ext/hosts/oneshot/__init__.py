"""What the one-shot strategies of NNI 2.8 - 2.10 and of NNI 3.0 share. They run in Lightning's loop.

=======================  ==========================================================================
:mod:`.interface`        the methods and the documentation of a strategy
:mod:`.options`          the arguments of a strategy that NNI's does not have
:mod:`.oneshot_search`   what a strategy adds to a model: logits, relaxed edges
:mod:`.bilevel_module`   what it adds to NNI's one-shot Lightning module: steps, epochs, checkpoints
:mod:`.callbacks`        the callbacks of Lightning that this needs
:mod:`.evaluation`       the supernet on the validation data, outside of Lightning's loop
:mod:`.unlogged`         passes in which a LightningModule does not log
=======================  ==========================================================================
"""
