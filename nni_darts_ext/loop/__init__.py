"""The search as it runs, step by step and epoch by epoch, in whichever host's loop or our own. Never NNI, never Lightning.

========================  ==========================================================================
:mod:`.search_trainer`    our own loop
:mod:`.mutator`           the interface of NNI's ``DartsMutator``, for a loop of one's own
:mod:`.data`              its two halves of the data
:mod:`.batches`           what a batch is, and what goes into the model and the loss
:mod:`.meters`            its metrics
:mod:`.progress`          its bar in the terminal
:mod:`.oneshot`           what a one-shot strategy adds to a host's loop and model
:mod:`.strategy`          what a one-shot strategy takes and offers
:mod:`.guard`             what ends a search when a loss is no number any more
:mod:`.following`         what follows a search epoch by epoch
:mod:`.followers`         which of these the arguments ask for
:mod:`.shrinking`         candidates that are dropped on the way
:mod:`.stillness`         logits that do not move
:mod:`.early_stopping`    what ends a search before its architectures stop generalising
:mod:`.resuming`          what a search goes on from
:mod:`.checkpoint`        the file that holds it
:mod:`.processes`         several processes that search together
========================  ==========================================================================
"""
