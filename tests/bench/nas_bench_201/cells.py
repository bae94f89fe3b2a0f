"""Cells of NAS-Bench-201 and the accuracies that the benchmark gives them."""

import csv
import gzip

from networks import EDGES, NODES, OPERATIONS, key


def written(architecture):
    """A cell as the benchmark writes it. ``architecture`` maps each edge to the index of its operation, None where it is none."""
    names = {edge: 'none' if architecture[key(*edge)] is None else OPERATIONS[architecture[key(*edge)]] for edge in EDGES}
    return '+'.join('|' + '|'.join('{}~{}'.format(names[j, i], i) for i in range(j)) + '|' for j in range(1, NODES))


class Table:
    """The accuracy of every cell, in percent, of a CSV file (gzipped or not) of ``architecture,accuracy`` with a header."""

    def __init__(self, path):
        opened = gzip.open if str(path).endswith('.gz') else open
        with opened(str(path), 'rt', newline='') as file:
            rows = list(csv.reader(file))[1:]
        self.accuracies = {architecture: float(accuracy) for architecture, accuracy in rows}

    def better(self, cell):
        """The share of all cells that are better than this one, in percent."""
        accuracy = self.accuracies[cell]
        return 100 * sum(other > accuracy for other in self.accuracies.values()) / len(self.accuracies)
