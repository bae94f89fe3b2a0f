"""What the choices of a supernet do in a forward pass, whichever host calls it."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from contextlib import contextmanager
from functools import partial
from inspect import signature
from typing import Any, Callable, Dict, Iterator, List, Mapping, MutableMapping, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ..errors import SearchSpaceError
from .edge.compilation import CompiledMixture
from .edge.mixture import mix, reduce, times
from .edge.plan import Plan
from .edge.recomputation import recomputed
from .edge.shapes import CandidateError
from .edge.sharing import SharedWork
from .logits import Logits, Relaxed, Weigh, transforms_are_active
from .sources import SourceFinder
from .space import Choice, Edge, InputNode, SearchSpace, candidates_of

Finish = Callable[[str, Any, Sequence[Any]], Any]
AfterPass = Callable[[nn.Module, Sequence[Any], Mapping[str, Any]], None]


class _Pass:
    """One pass through the supernet: its weights, and the state that they were made in."""

    def __init__(self, relaxed: Mapping[str, Relaxed], stamp: Any) -> None:
        self.relaxed, self.stamp = relaxed, stamp
        self.has_graph = torch.is_grad_enabled()


class Relaxation:
    """The forward pass of edges and inputs. It knows no module, so that copies of the model copy little with it.

    A pass begins when the forward method of the watched model does, and ends with it. All edges are weighed once when it begins,
    and every module of a key has the same weights in it. A module that runs outside a pass relaxes its edge alone: one that is
    called by itself, that ``torch.utils.checkpoint`` runs again in a backward pass, or that a transform of ``torch.func`` runs.

    Attributes
    ----------
    weigh : Weigh
        Makes the weights of a pass. Default: that of the choices.
    weigh_inputs : callable
        Returns the weights of the candidates of an InputChoice by its key, shape ``(n_candidates,)``; None for 1 each, the
        default.
    samples : bool
        Whether weights differ from pass to pass, as those of a Gumbel softmax do. Default False. Which candidates run is read in
        each pass then, whatever the device. What ``torch.utils.checkpoint`` of the model's own runs again is weighed again, which
        must give the same weights; with ``recompute`` it is not.
    recompute : bool
        Whether what an edge computes on the way is computed again in the backward pass instead of kept for it.
    finish : callable or None
        Changes the output of an edge, given its key, the output and the positional arguments. Default None: it is the mixture.
    is_training : bool
        Whether the model was in training mode when the last pass began.
    after_pass : callable or None
        Called with the model and its arguments when a pass has ended. Keyword arguments are known from PyTorch 2.0 on.
    decisions : mapping or None
        The decisions that passes run in the context of :meth:`fixed`; None outside it.
    compiled : CompiledMixture or None
        What computes the edges in place of :func:`nni_darts_ext.core.edge.mixture.mix`.
    """

    def __init__(self, choices: Logits, space: SearchSpace, recompute: bool = False,
                 compiled: Optional[CompiledMixture] = None) -> None:
        self.recompute = recompute
        self.compiled = compiled
        self.samples = False
        self.finish: Optional[Finish] = None
        self.after_pass: Optional[AfterPass] = None
        self._weigh: Optional[Weigh] = None
        self.weigh_inputs: Callable[[str], Optional[Tensor]] = _unweighed
        self.is_training = True
        self.decisions: Optional[Mapping[str, Sequence[bool]]] = None
        self._fixed: Dict[str, Relaxed] = {}
        self._choices = choices
        self._space = space
        self._sources = SourceFinder(space)
        self._shared = SharedWork()
        self._forget()

    def _forget(self) -> None:
        self._pass: Optional[_Pass] = None
        """Under way."""
        self._drawn: Optional[_Pass] = None
        """Begun by :meth:`begin`, for the forward method of the model to take up."""
        self._plans: MutableMapping[nn.Module, Plan] = weakref.WeakKeyDictionary()
        """By LayerChoice."""

    # Copies and pickles begin without a pass, whose graphs can be in neither, and plan anew.

    def __getstate__(self) -> Dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ('_pass', '_drawn', '_plans')}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    @property
    def weigh(self) -> Weigh:
        return self._weigh or self._choices.weigh

    @weigh.setter
    def weigh(self, weigh: Optional[Weigh]) -> None:
        self._weigh = weigh

    def relax_all(self) -> Dict[str, Relaxed]:
        """The relaxation of all edges as the logits are now."""
        return self._choices.relax_all(self.weigh, self.samples) if self.decisions is None else dict(self._fixed)

    def begin(self, relaxed: Optional[Mapping[str, Relaxed]] = None) -> None:
        """Weigh all edges for the next call of the model, unless logits, or the recording of gradients, change before it.
        ``relaxed`` is the result of :meth:`relax_all` to use; default: relax anew."""
        self._drawn = None
        if not transforms_are_active():
            self._drawn = _Pass(self.relax_all() if relaxed is None else relaxed, self._choices.stamp())

    @contextmanager
    def fixed(self, decisions: Mapping[str, Sequence[bool]]) -> Iterator[None]:
        """Run passes as the network with these decisions does, in a context without gradients. Methods have no part in them."""
        kept = dict(vars(self))
        with torch.no_grad():
            vars(self).update(finish=None, after_pass=None, compiled=None, decisions=decisions, _pass=None, _drawn=None, _fixed={
                key: Relaxed.of(of_edge.new_tensor([float(is_kept) for is_kept in decisions[key]]))
                for key, of_edge in self._choices.all_probabilities().items()})
            try:
                yield
            finally:
                vars(self).update(kept)

    def watch(self, model: nn.Module, weighs: bool = True) -> None:
        """Weigh all edges whenever this model is called, unless the host passes the weights of each edge (``weighs=False``), and
        find out in its first call what reads the outputs of its edges."""
        self._sources.watch(model)
        if weighs:
            always = {'always_call': True} if 'always_call' in signature(model.register_forward_hook).parameters else {}
            model.register_forward_pre_hook(self._begin_pass)
            model.register_forward_hook(self._end_pass, **always)
        with_kwargs = {'with_kwargs': True} if 'with_kwargs' in signature(model.register_forward_hook).parameters else {}
        model.register_forward_hook(self._tell_of_pass, **with_kwargs)

    def _begin_pass(self, model: nn.Module, args: Any) -> None:
        if not self._is_searched(model):
            return self._leave(model)
        self.is_training = model.training
        drawn, self._drawn, self._pass = self._drawn, None, None
        if not transforms_are_active():
            is_fresh = drawn is not None and drawn.stamp == self._choices.stamp()
            self._pass = drawn if is_fresh else _Pass(self.relax_all(), self._choices.stamp())

    def _end_pass(self, model: nn.Module, args: Any, output: Any) -> None:
        self._pass = None

    def _tell_of_pass(self, model: nn.Module, args: Any, *kwargs_and_output: Any) -> None:
        if self.after_pass is not None and not transforms_are_active():
            self.after_pass(model, args, kwargs_and_output[0] if len(kwargs_and_output) == 2 else {})

    def _is_searched(self, model: nn.Module) -> bool:
        """Whether it is no network that a host has made of the supernet, which takes the hooks along."""
        return any('forward' in getattr(_at(edge.path, model), '__dict__', ()) for edge in self._space.layer_choices)

    def _leave(self, model: nn.Module) -> None:
        for name in ('_forward_pre_hooks', '_forward_hooks'):  # which the supernet may share
            setattr(model, name, OrderedDict((number, hook) for number, hook in getattr(model, name).items()
                                             if getattr(hook, '__self__', None) is not self))

    def _relax(self, key: str) -> Relaxed:
        if self.decisions is not None:
            return self._fixed[key]
        if transforms_are_active():
            return self._choices.relax(key, self.weigh)
        if self._pass is not None and (self._pass.has_graph or not torch.is_grad_enabled()):
            return self._pass.relaxed[key]
        # A checkpoint around this counts what is saved in it, and is to find as much as in a pass, whose weights are outside it.
        with saved_tensors_hooks(_as_it_is, _as_it_is):
            return self._choices.relax(key, self.weigh, self.samples)

    def edge(self, key: str, candidates: Sequence[nn.Module], args: Sequence[Any], kwargs: Mapping[str, Any],
             reduction: str = 'sum', relaxed: Optional[Relaxed] = None, module: Optional[nn.Module] = None) -> Any:
        """The mixture of the candidates. Raises :class:`SearchSpaceError` if two of them return different forms, or one writes
        over its input.

        ``relaxed`` are their weights; default: those of the pass, outside of one those that the logits give now. How the
        candidates run is remembered for ``module``, the LayerChoice; default: it is found out for this call.
        """
        relaxed = relaxed or self._relax(key)
        reduction = reduction if self.decisions is None else 'sum'  # of one candidate, which alone is in the network
        self._sources.note_edge(key, (args, kwargs))
        try:
            mixed = self._mixed(self._plan(module, candidates), relaxed, args, kwargs, reduction)
        except CandidateError as error:
            raise error.of(self._space.edges[key]) from None
        if self.finish is not None:
            mixed = self.finish(key, mixed, args)
        return mixed if transforms_are_active() else self._sources.mark(key, mixed)

    def _plan(self, module: Optional[nn.Module], candidates: Sequence[nn.Module]) -> Plan:
        plan = None if module is None else self._plans.get(module)
        if plan is None or not plan.is_of(candidates):
            plan = Plan(candidates)
            if module is not None:
                self._plans[module] = plan
        return plan

    def _mixed(self, plan: Plan, relaxed: Relaxed, args: Sequence[Any], kwargs: Mapping[str, Any], reduction: str) -> Any:
        compute = partial(self.compiled or mix, plan, args=args, kwargs=kwargs, reduction=reduction)
        if self.recompute and torch.is_grad_enabled():  # each edge for itself: what others keep might be gone by then
            running = [plan.candidates[i] for i in relaxed.live]
            return recomputed(partial(compute, keep_all=True), relaxed, running, (args, kwargs))
        return compute(relaxed, shared=self._shared)

    def inputs(self, key: str, candidates: List[Any], reduction: str) -> Any:
        """All candidates, each times its weight if a method gives it one, reduced. Raises :class:`SearchSpaceError` if they are
        structures of different forms."""
        if self.decisions is not None:
            kept = [candidate for candidate, is_kept in zip(candidates, self.decisions[key]) if is_kept]
            return reduce(kept, reduction) if kept or reduction == 'none' else None
        self.note(key, candidates)
        weights = self.weights_of_inputs(key)
        try:
            reduced = reduce(candidates if weights is None else list(map(times, candidates, weights.unbind())), reduction)
        except SearchSpaceError as error:
            raise SearchSpaceError(f'InputChoice {key!r}: {error}') from None
        return self._sources.mark(key, reduced, is_edge=False)

    def weights_of_inputs(self, key: str) -> Optional[Tensor]:
        """The weights of the candidates of an InputChoice; None for 1 each, as where no LayerChoice feeds it."""
        return self.weigh_inputs(key) if key in self._space.unnamed or self.is_fed(key) else None

    def note(self, key: str, candidates: List[Any]) -> None:
        """Find out where the candidates come from, unless that is known. The graphs of ``torch.func`` do not show it."""
        if not transforms_are_active():
            self._sources.note(key, candidates)

    def is_fed(self, key: str) -> bool:
        """Whether a LayerChoice is known to feed one of the candidates."""
        return self._space.is_fed(key)


def _at(path: str, model: Any) -> Any:
    """The module of a model at a path, None where there is none."""
    for name in path.split('.') if path else ():
        model = getattr(model, '_modules', {}).get(name)
    return model


def _unweighed(key: str) -> None:
    return None


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def relax(module: nn.Module, choice: Choice, relaxation: Relaxation) -> None:
    """Make a choice of a host that calls no mutator run its relaxation.

    The module stays what it is, with its class, weights and names, so that the host can still make a network of it. Raises
    :class:`SearchSpaceError` if another search has the module already.
    """
    if 'forward' in vars(module):
        raise SearchSpaceError(f'{type(module).__name__} {choice.key!r} is searched already by another DartsMutator or '
                               'strategy. Build a new model for a new search.')
    vars(module)['forward'] = (partial(_forward_edge, module, choice, relaxation) if isinstance(choice, Edge)
                               else partial(_forward_inputs, module, choice, relaxation))


def _forward_edge(module: nn.Module, edge: Edge, relaxation: Relaxation, *args: Any, **kwargs: Any) -> Any:
    return relaxation.edge(edge.key, candidates_of(module, edge), args, kwargs, module=module)


def _forward_inputs(module: nn.Module, node: InputNode, relaxation: Relaxation, *args: Any, **kwargs: Any) -> Any:
    candidates, = (*args, *kwargs.values())  # which hosts name differently
    return relaxation.inputs(node.key, candidates, module.reduction)  # type: ignore[arg-type]
