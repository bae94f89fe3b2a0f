"""Prints what took how long: the seconds of each environment, and the slowest tests of all: ``summary.py RESULTS.json...``.

The results are what ``tox --result-json`` wrote, which it does at its end; those of the tests are in the folders of the
environments, each of which writes them at its own end.
"""

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

N_SLOWEST = 10

seconds, tests, failed = {}, [], []
for file in (Path(__file__).resolve().parents[1] / '.tox').glob('*/tests.xml'):
    name = file.parent.name
    try:
        suites = list(ElementTree.parse(file).iter('testsuite'))
    except ElementTree.ParseError:  # it was killed while it wrote
        suites = []
    for suite in suites:
        seconds[name] = float(suite.get('time'))
        for case in suite.iter('testcase'):
            tests.append((float(case.get('time')), f"{name}  {case.get('classname')}::{case.get('name')}"))
            if case.find('failure') is not None or case.find('error') is not None:
                failed.append(tests[-1])
for file in filter(Path.exists, map(Path, sys.argv[1:])):
    for name, found in json.loads(file.read_text())['testenvs'].items():
        if 'result' in found:
            seconds[name] = found['result']['duration']
            if not found['result']['success']:
                failed.append((seconds[name], name))

ended = {file.parts[-2] for file in (Path(__file__).resolve().parents[1] / '.tox').glob('[!.]*/bin')}
failed += [(0.0, f'{name} did not end') for name in ended - set(seconds)]

for title, rows in {f'Seconds of {len(seconds)} environments': ((value, name) for name, value in seconds.items()),
                    f'Seconds of the slowest of {len(tests)} tests': sorted(tests, reverse=True)[:N_SLOWEST],
                    f'Failed: {len(failed) or "none"}': failed}.items():
    print(f'\n{title}', *(f'{value:8.1f}  {name}' for value, name in sorted(rows, reverse=True)), sep='\n')
