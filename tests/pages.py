"""The fenced code blocks of the documentation, and the comments that say how to run them.

A comment is directly above its block, or contains code that readers do not see:

    <!-- needs: nas, lightning -->                 runs where NNI has one of these families; without it wherever there is any
    <!-- needs: retiarii of NNI 2.1 - 2.10 -->     and is one of these versions
    <!-- not run: why -->                          is shown only
    <!-- file: mine.py -->                         is written to that file in the folder that the page runs in, and not run
    <!-- same as: examples/nnictl/config.yml -->   is the content of that file of the project; Python is written like a file
    <!-- hidden; needs: classic                    Python up to the closing arrow, on a line of its own
"""

import importlib.util
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


def _tables():
    spec = importlib.util.spec_from_file_location('tables', str(ROOT / 'docs' / 'tables.py'))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = _tables()
PAGES = {page.relative_to(ROOT).as_posix(): page.read_text(encoding='utf-8') for page in tables.pages() if page.suffix == '.md'}
PART = re.compile(r'^<!-- hidden(?:; (?P<needs>needs: [^\n]*))?\n(?P<hidden>.*?)^-->$'
                  r'|^(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<language>\S*)\n(?P<code>.*?)^```$', re.MULTILINE | re.DOTALL)
MARKS = ('needs', 'not run', 'file', 'same as')


class Block(NamedTuple):
    line: int
    language: str
    code: str
    marks: dict

    def runs_with(self, families, nni):
        """Whether it runs with this version of NNI, which has these families."""
        names, _, versions = self.marks.get('needs', '').partition(' of ')
        wanted = set(names.split(', ')) if names else set(families)
        return bool(wanted & set(families)) and (not versions or tables.within(nni, versions))

    @property
    def file(self):
        """The name of the file that it is written to, empty for none."""
        return self.marks.get('file') or (Path(self.marks.get('same as', '')).name if self.language == 'python' else '')

    @property
    def is_code(self):
        """Whether it is executed."""
        return self.language in ('python', 'sh') and not {'not run', 'file', 'same as'} & set(self.marks)


def blocks(page):
    """The blocks of a page in their order, hidden ones included."""
    for part in PART.finditer(PAGES[page]):
        group = 'code' if part.group('hidden') is None else 'hidden'
        line = PAGES[page].count('\n', 0, part.start(group)) + 1
        mark = part.group('mark') or part.group('needs')
        yield Block(line, part.group('language') or 'python', part.group(group), dict([mark.split(': ', 1)]) if mark else {})
