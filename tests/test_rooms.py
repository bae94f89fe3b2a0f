"""Who imports whom in nni_darts_ext, read off the sources: imports in functions count, those for types alone do too."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

import nni_darts_ext

PACKAGE = Path(nni_darts_ext.__file__).parent
ROOT = 'nni_darts_ext'

ROOMS = {
    # a folder or file of the package: what it may import of the others, each of which stands above it; and packages of others
    'errors': ([], []),
    'core': (['errors'], ['torch']),
    'methods': (['errors', 'core'], ['torch']),
    'run': (['errors', 'core', 'methods'], ['torch', 'pynvml']),
    'loop': (['errors', 'core', 'methods', 'run'], ['torch', 'tqdm', 'numpy']),
    'hosts': (['errors', 'core', 'methods', 'loop'], ['torch', 'nni', 'pytorch_lightning']),
    'nn': (['errors', 'core', 'hosts'], ['torch']),
    'fixed': (['errors', 'core', 'loop', 'hosts'], ['torch']),
    'trainer': (['errors', 'loop', 'hosts'], ['torch']),
    ROOT: (['errors', 'core', 'methods', 'run', 'hosts', 'nn', 'fixed', 'trainer'], []),
    'nnictl': (['errors', 'core', 'hosts'], ['nni', 'numpy']),
    'protocol': (['core', 'fixed', 'nnictl', 'loop'], ['nni']),
    'trial': (['errors', 'methods', 'loop', ROOT, 'protocol'], ['torch', 'numpy']),
    'plot': (['errors', 'run'], ['matplotlib', 'networkx']),
    'page': (['errors', 'run', 'nnictl', 'plot'], []),
    'cli': (['errors', 'run', 'nnictl', 'plot', 'page'], []),
    '__main__': (['cli'], []),
}
FREE = {'__version__'}
"""What any room may take from the package itself."""
OF_OTHERS = {'torch', 'nni', 'pytorch_lightning', 'lightning', 'numpy', 'tqdm', 'matplotlib', 'networkx', 'tensorboard',
             'pynvml', 'torchmetrics', 'torchvision', 'pandas', 'sklearn', 'packaging', 'setuptools', 'pkg_resources'}
LINES = 300


def sources():
    """The modules of the package by their dotted names."""
    found = {}
    for file in PACKAGE.rglob('*.py'):
        parts = file.relative_to(PACKAGE).with_suffix('').parts
        found['.'.join((ROOT, *(parts[:-1] if parts[-1] == '__init__' else parts)))] = file
    return found


SOURCES = sources()


def imported(name):
    """What a module imports anywhere in its source, as modules and the names that are taken from them."""
    file = SOURCES[name]
    package = name.split('.') if file.name == '__init__.py' else name.split('.')[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ''
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join([*package[:len(package) + 1 - node.level], *([node.module] if node.module else [])]) \
                if node.level else node.module
            for alias in node.names:
                yield (f'{base}.{alias.name}', '') if f'{base}.{alias.name}' in SOURCES else (base, alias.name)


def room(module):
    parts = module.split('.')
    return parts[1] if len(parts) > 1 else ROOT


@pytest.mark.parametrize('own', ROOMS)
def test_a_room_imports_what_it_may_and_nothing_else(own):
    rooms, packages = ROOMS[own]
    wrong = []
    for module in SOURCES:
        if room(module) == own:
            for other, name in imported(module):
                if other.split('.')[0] == ROOT:
                    is_fine = room(other) in (own, *rooms) or (other == ROOT and name in FREE)
                else:
                    is_fine = other.split('.')[0] not in OF_OTHERS or other.split('.')[0] in packages
                if not is_fine:
                    wrong.append(f'{module}: {other} {name}')
    assert wrong == []


def test_every_room_is_in_the_table_and_imports_only_those_above_it():
    assert {room(module) for module in SOURCES} == set(ROOMS)
    above = set()
    for own, (rooms, _) in ROOMS.items():
        assert set(rooms) <= above
        above.add(own)


def test_the_core_and_the_methods_know_pytorch_alone():
    for own in ('core', 'methods'):
        assert {other.split('.')[0] for module in SOURCES if room(module) == own for other, _ in imported(module)} \
            .isdisjoint(OF_OTHERS - {'torch'})


def test_nnictl_does_not_import_pytorch_as_nni_waits_ten_seconds_for_a_dispatcher():
    seen, new = set(), {module for module in SOURCES if room(module) == 'nnictl'}
    while new:
        seen |= new
        new = {other for module in new for other, _ in imported(module)
               if other in SOURCES and room(other) in ('core', 'nnictl')} - seen
    assert {'core', 'nnictl'} <= {room(module) for module in seen}
    assert [module for module in seen for other, _ in imported(module) if other.split('.')[0] == 'torch'] == []


def test_no_family_of_hosts_needs_another_but_the_one_with_its_choices():
    families = {'classic', 'retiarii', 'lightning', 'nas'}
    found = defaultdict(set)
    for module in SOURCES:
        if room(module) == 'hosts' and len(module.split('.')) > 2 and module.split('.')[2] in {*families, 'oneshot'}:
            own = module.split('.')[2]
            found[own] |= {other.split('.')[2] for other, _ in imported(module)
                           if other.startswith(f'{ROOT}.hosts.')} & families - {own}
    assert dict(found) == {'classic': set(), 'retiarii': set(), 'lightning': {'retiarii'}, 'nas': set(), 'oneshot': set()}


def test_files_are_short():
    long = {file.relative_to(PACKAGE).as_posix() for file in SOURCES.values()
            if len(file.read_text(encoding='utf-8').splitlines()) > LINES}
    assert long == set()


def test_a_files_name_means_one_thing():
    places = defaultdict(list)
    for module, file in SOURCES.items():
        if file.name != '__init__.py':
            places[file.name].append(module)
    assert [modules for modules in places.values() if len(modules) > 1] == []
