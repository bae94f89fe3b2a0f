"""The maths of DARTS, free of any host: PyTorch at most, never NNI, never Lightning.

H. Liu, K. Simonyan, Y. Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, arXiv 1806.09055.

========================  ==========================================================================
:mod:`.space`             what is searched: edges (LayerChoices) and the inputs chosen among them
:mod:`.logits`            one vector of n + 1 logits an edge, zero op last; its softmax; cuts
:mod:`.search`            all that is not the loop: logits, cuts, the derived architecture
:mod:`.mutator`           the interface of NNI's ``DartsMutator`` over all of these
:mod:`.mixture`           the weighted sum of candidates that runs during the search (eq. 2)
:mod:`.layers`            a candidate as the layers that it is made of
:mod:`.dilation`          dilated convolutions that leave pixels out, without dilation
:mod:`.strides`           1x1 convolutions that overrun memory on some CPUs, without strides
:mod:`.keeping`           what a graph need not keep, for it is cheap to compute again
:mod:`.sharing`           what candidates and edges have in common, computed once
:mod:`.recomputation`     an edge computed again in the backward pass instead of kept
:mod:`.compilation`       edges compiled
:mod:`.layout`            how images lie in memory
:mod:`.modules`           the modules of a model, found and replaced wherever it holds them
:mod:`.nested`            lists, tuples and mappings of tensors
:mod:`.shapes`            what candidates return must be alike
:mod:`.sources`           what reads the outputs of edges, found out in the first forward pass
:mod:`.relaxation`        what the choices of a supernet do in a forward pass: all of these
:mod:`.bilevel`           the architecture gradient, first and second order
:mod:`.gradients`         gradients, and what belongs to which step
:mod:`.aside`             passes that leave no trace
:mod:`.derivation`        from weights to a discrete architecture (section 2.4)
:mod:`.export`            the architecture in the forms that people and hosts read
:mod:`.tracing`           what reads the outputs of edges, found without a forward pass
:mod:`.absent`            tensors without numbers, which dropped edges give
:mod:`.fixed`             an architecture in any of these forms, made into the network that it describes
:mod:`.files`             JSON that is data alone; files that are there as a whole or not at all
:mod:`.collapse`          what tells that a search goes wrong
:mod:`.curvature`         one more such sign: the dominant eigenvalue of the Hessian
========================  ==========================================================================
"""
