"""What ours is held against beside NNI's own: the candidates alone, and the paper's second order as the paper writes it."""

import copy
from functools import reduce
from operator import add

import torch
from torch import nn


class Walk(nn.Module):
    """A ``PaperSpace`` without LayerChoices and InputChoices; subclasses say what edges and nodes compute."""

    def __init__(self, space):
        super().__init__()
        self.stem, self.cells, self.classifier = space.stem, space.cells, space.classifier
        for cell in self.cells:
            cell.edges = nn.ModuleList([nn.ModuleDict([(_key(edge), nn.ModuleList(edge.children())) for edge in edges])
                                        for edges in cell.edges])
            del cell.inputs

    def forward(self, images):
        before_last = last = self.stem(images)
        for cell in self.cells:
            before_last, last = last, self.cell(cell, before_last, last)
        return self.classifier(last.mean(dim=(2, 3)))

    def cell(self, cell, before_last, last):
        raise NotImplementedError


def _key(edge):
    return edge.label if hasattr(edge, 'label') else edge.key


class CandidatesAlone(Walk):
    """The forward and backward passes of the candidates and of what is around the edges, and no mixing at all.

    This is the least that a search step which runs every candidate as it is written can do. Each candidate of each edge takes the
    state before the edge, and each gets a gradient for its output. There are no logits, no weights and no products, and nothing
    is summed:

    - :class:`FanIn` stands for the mixture of an edge, and for the sum of the edges of a node. Forward it is its first input.
      Backward it hands the gradient that it gets to every input, the same tensor.
    - :class:`FanOut` stands wherever several read one state. Backward it passes the first of their gradients on and drops the
      others, so that those are computed, but not added up.

    So autograd runs the very operations that the candidates, stem, preprocessing and classifier have in a search, of the same
    shapes and in the same order, and none besides. As in a search, :meth:`step` is a pass over a validation batch that asks for
    no gradient of a weight, and one over a training batch that asks for all of them. In the first, gradients are asked for where
    the logits would be, at each edge: candidates with a logit before them have the gradients of their inputs computed, those of
    the first cell's first edges, stem and first preprocessing none, as in a search. Optimisers, clipping of gradients, loading
    of data and measuring of accuracy are left out; a search has them on top.

    What candidates could share (several begin with the same ReLU) is not shared here. A search that does may take less.
    """

    def __init__(self, space):
        super().__init__(space)
        self.weights = list(self.parameters())
        self.mark = nn.Parameter(torch.zeros(()))
        """Stands where the logits would be. Its own gradient is never computed."""

    def cell(self, cell, before_last, last):
        nodes = len(cell.edges)
        states = [_readings(cell.prepare[0](before_last), nodes), _readings(cell.prepare[1](last), nodes)]
        for i, edges in enumerate(cell.edges):
            outputs = [self.edge(candidates, next(state)) for candidates, state in zip(edges.values(), states)]
            state = FanIn.apply(self.mark, *outputs)
            states.append(_readings(state, nodes - i))  # by the later nodes and the concatenation
        return torch.cat([next(state) for state in states[2:]], dim=1)

    def edge(self, candidates, state):
        outputs = [candidate(reading) for candidate, reading in zip(candidates, _readings(state, len(candidates)))]
        return FanIn.apply(self.mark, *outputs)

    def step(self, validation, training, loss):
        """Both passes."""
        return self.gradients(validation, loss, [self.mark]), self.gradients(training, loss, self.weights)

    def gradients(self, batch, loss, parameters):
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        images, labels = batch
        return torch.autograd.grad(loss(self(images), labels), parameters, allow_unused=True)


class FanIn(torch.autograd.Function):
    """The first of several tensors; all of them get its gradient, and the mark none."""

    @staticmethod
    def forward(ctx, mark, *tensors):
        ctx.n = len(tensors)
        return tensors[0].detach()

    @staticmethod
    def backward(ctx, gradient):
        return (None, *[gradient] * ctx.n)


class FanOut(torch.autograd.Function):
    """A tensor several times over; it gets the gradient of the first."""

    @staticmethod
    def forward(ctx, tensor, n):
        return tuple(tensor.detach() for _ in range(n))

    @staticmethod
    def backward(ctx, gradient, *others):
        return gradient, None


def _readings(state, n):
    return iter(FanOut.apply(state, n))


class Mixture(Walk):
    """The supernet by equation 2 of the paper: an edge is the sum of its candidates, each times its share of the softmax.

    The zero op has the last logit, and its term, which is zero, is left out.
    """

    def __init__(self, space):
        super().__init__(space)
        self.weights = list(self.parameters())
        n_logits = {key: len(candidates) + 1 for cell in self.cells for edges in cell.edges for key, candidates in edges.items()}
        self.logits = nn.ParameterDict({key: nn.Parameter(1e-3 * torch.randn(n)) for key, n in n_logits.items()})

    def cell(self, cell, before_last, last):
        states = [cell.prepare[0](before_last), cell.prepare[1](last)]
        for edges in cell.edges:
            states.append(reduce(add, [self.edge(key, candidates, state)
                                       for (key, candidates), state in zip(edges.items(), states)]))
        return torch.cat(states[2:], dim=1)

    def edge(self, key, candidates, state):
        shares = torch.softmax(self.logits[key], dim=-1)
        return reduce(add, [share * candidate(state) for share, candidate in zip(shares, candidates)])


def as_written(model, training, validation, loss, xi, radius=0.01):
    """The gradient by the logits as equations 7 and 8 of the paper spell it out (Liu et al., section 2.3).

    A copy of the model takes the virtual weights, w' = w - xi dT/dw. Each of the four gradients is what ``backward()`` gives:
    those of all weights and logits. The weights themselves are moved to w+ and w- and back.
    """
    images, labels = training
    model.zero_grad(set_to_none=True)
    loss(model(images), labels).backward()
    virtual = copy.deepcopy(model)
    with torch.no_grad():
        for moved, weight in zip(virtual.weights, model.weights):
            moved -= xi * weight.grad
    virtual.zero_grad(set_to_none=True)
    loss(virtual(validation[0]), validation[1]).backward()
    along = [weight.grad for weight in virtual.weights]
    epsilon = radius / torch.cat([part.flatten() for part in along]).norm()

    def move(by):
        with torch.no_grad():
            for weight, part in zip(model.weights, along):
                weight += by * part

    def gradients():
        model.zero_grad(set_to_none=True)
        loss(model(images), labels).backward()
        return [logits.grad for logits in model.logits.values()]

    move(epsilon)
    ahead = gradients()
    move(-2 * epsilon)
    behind = gradients()
    move(epsilon)
    return [logits.grad - xi * (plus - minus) / (2 * epsilon)
            for logits, plus, minus in zip(virtual.logits.values(), ahead, behind)]
