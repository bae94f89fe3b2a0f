"""The search as it runs, step by step and epoch by epoch, in whichever host's loop or our own. Never NNI, never Lightning.

========================  ==========================================================================
:mod:`.steps`             the two steps of a batch, and the epochs around them
:mod:`.search_trainer`    our own loop
:mod:`.evaluating`        architectures compared by the weights of the supernet
:mod:`.mutator`           the interface of NNI's ``DartsMutator``, for a loop of one's own
:mod:`.training`          a network trained from scratch
:mod:`.arguments`         what trainer and strategies take alike
:mod:`.data`              the two halves of the data
:mod:`.batches`           what a batch is, and what goes into the model and the loss
:mod:`.meters`            running averages of metrics
:mod:`.progress`          the bar in the terminal
:mod:`.plain`             a hint that a search without methods may collapse
:mod:`.guard`             what ends a search when a loss is not finite
:mod:`.resuming`          what a search resumes from
:mod:`.checkpoint`        the file that holds it
:mod:`.stateful`          what has a state beside model, logits and optimisers
:mod:`.processes`         several processes that search together
========================  ==========================================================================
"""
