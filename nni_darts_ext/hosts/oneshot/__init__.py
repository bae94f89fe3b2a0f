"""What the one-shot strategies of all families of NNI's hosts share. They run in Lightning's loop.

=======================  ==========================================================================
:mod:`.interface`        what a strategy offers, and its documentation
:mod:`.options`          its arguments that are not NNI's
:mod:`.oneshot_search`   what it adds to a model
:mod:`.bilevel_module`   what it adds to NNI's one-shot Lightning module: steps, epochs, checkpoints
:mod:`.callbacks`        Lightning's callbacks that this takes
:mod:`.unlogged`         batches that leave no trace in what a LightningModule logs
=======================  ==========================================================================
"""
