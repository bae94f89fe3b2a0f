"""The maths of DARTS, independent of any host: it imports PyTorch, but neither NNI nor Lightning.

H. Liu, K. Simonyan, Y. Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, arXiv 1806.09055.

===========================  ==========================================================================
:mod:`.space`                the search space: edges (LayerChoices) and the inputs chosen among them
:mod:`.logits`               one vector of n + 1 logits for each edge, zero op last; cuts
:mod:`.weights`              how logits become the weights of candidates: a softmax by default
:mod:`.search`               a search without its loop: logits, cuts, the derived architecture
:mod:`.relaxation`           what the choices of a supernet compute in a forward pass
:mod:`.edge`                 how an edge runs
:mod:`.bilevel`              the architecture gradient, first and second order
:mod:`.sources`              what reads the outputs of edges, found in the first forward pass
:mod:`.derivation`           from probabilities to a discrete architecture (section 2.4)
:mod:`.ranking`              the most probable architectures
:mod:`.costs`                parameters, multiply-adds and latency
:mod:`.random_architecture`  random architectures, with which a search is to be compared
:mod:`.export`               the forms in which an architecture is exported
:mod:`.tracing`              what reads the outputs of edges, found without a forward pass
:mod:`.absent`               tensors without data, the outputs of dropped edges
:mod:`.decisions`            applying an architecture in any of these forms to a model
:mod:`.modules`              finding and replacing modules wherever a model holds them
:mod:`.random_states`        the random states of a process, saved and restored
:mod:`.nested`               lists, tuples and mappings of tensors
:mod:`.files`                parsing of untrusted JSON; atomic writing of files
:mod:`.collapse`             indicators of collapse
:mod:`.criteria`             the rule by which a search counts as collapsed
:mod:`.grouping`             the cells of a search space
===========================  ==========================================================================
"""
