"""The maths of DARTS, free of any host: PyTorch at most, never NNI, never Lightning.

H. Liu, K. Simonyan, Y. Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, arXiv 1806.09055.

========================  ==========================================================================
:mod:`.space`             what is searched: edges (LayerChoices) and the inputs chosen among them
:mod:`.logits`            one vector of n + 1 logits an edge, zero op last; its softmax; cuts
:mod:`.search`            all that is not the loop: logits, cuts, the derived architecture
:mod:`.relaxation`        what the choices of a supernet do in a forward pass
:mod:`.edge`              how an edge runs
:mod:`.bilevel`           the architecture gradient, first and second order
:mod:`.sources`           what reads the outputs of edges, found out in the first forward pass
:mod:`.derivation`        from weights to a discrete architecture (section 2.4)
:mod:`.export`            the architecture in the forms that people and hosts read
:mod:`.tracing`           what reads the outputs of edges, found without a forward pass
:mod:`.absent`            tensors without numbers, which dropped edges give
:mod:`.decisions`         an architecture in any of these forms, made into the network that it describes
:mod:`.modules`           the modules of a model, found and replaced wherever it holds them
:mod:`.nested`            lists, tuples and mappings of tensors
:mod:`.files`             JSON that is data alone; files that are there as a whole or not at all
:mod:`.collapse`          what tells that a search goes wrong
========================  ==========================================================================
"""
