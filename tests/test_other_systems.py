"""What Linux can tell of Windows and macOS: names of files, encodings, and a search where the system refuses as Windows does."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ends
TESTS = Path(__file__).parent
ROOT = TESTS.parent
FILES = [file for folder in ('nni_darts_ext', 'tests', 'docs', 'examples') for file in sorted((ROOT / folder).rglob('*'))
         if file.is_file() and not re.search(r'__pycache__|_build|\.egg-info', str(file))]


def test_every_file_of_the_project_has_a_name_everywhere():
    names = [str(file.relative_to(ROOT)) for file in FILES]
    assert len({name.casefold() for name in names}) == len(names) > 200
    reserved = re.compile(r'(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*[:*?"<>|\\\x00-\x1f].*|.*[. ]', re.IGNORECASE)
    assert [name for name in names if any(reserved.fullmatch(part) for part in Path(name).parts) or len(name) > 120] == []


@pytest.mark.skipif(sys.version_info < (3, 8), reason='its syntax trees are others, and the sources are the same')
def test_text_is_read_and_written_in_an_encoding_that_is_named():
    unnamed = []
    for file in (ROOT / 'nni_darts_ext').rglob('*.py'):
        for call in (node for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))) if isinstance(node, ast.Call)):
            arguments = [getattr(one, 'value', None) for one in call.args] + [one.arg for one in call.keywords]
            if getattr(call.func, 'attr', '') in ('read_text', 'write_text'):
                is_named = {'encoding', 'utf-8', 'ascii'}.intersection(map(str, arguments))
            elif getattr(call.func, 'id', '') == 'open':
                is_named = 'encoding' in arguments or 'b' in str(arguments[1:2])
            else:
                continue
            unnamed += [] if is_named else [f'{file}:{call.lineno}']
    assert unnamed == []


@pytest.mark.skipif(not Path('/proc/self/fd').exists(), reason='only Linux tells which files are open')
@pytest.mark.family('classic', 'retiarii', 'nas')
def test_a_search_is_recorded_read_and_resumed_where_the_system_refuses_what_windows_does(tmp_path):
    paths = os.pathsep.join([str(TESTS), str(ROOT), os.environ.get('PYTHONPATH', '')])
    ended = subprocess.run([sys.executable, '-W', 'ignore', str(TESTS / 'as_on_windows.py'), str(tmp_path)],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
                           env={**os.environ, 'PYTHONPATH': paths})
    assert ended.returncode == 0, ended.stderr
    assert 'done: 5 of 5 epochs' in ended.stdout and ended.stdout.endswith('done\n')
