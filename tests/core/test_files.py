"""Atomic replacement of files."""

import os
import stat
import threading

import pytest

from nni_darts_ext.core import files


def write(file, content=b'new'):
    with files.replacing(file) as opened:
        opened.write(content)


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    write(tmp_path / 'file', b'old')
    with pytest.raises(ZeroDivisionError), files.replacing(tmp_path / 'file') as opened:
        opened.write(b'ne')
        1 / 0  # noqa: B018
    assert (tmp_path / 'file').read_bytes() == b'old'
    write(tmp_path / 'file')
    assert (tmp_path / 'file').read_bytes() == b'new' and [file.name for file in tmp_path.iterdir()] == ['file']


@pytest.mark.skipif(os.name == 'nt', reason='links are for administrators there')
def test_the_temporary_name_is_unpredictable(tmp_path):
    (tmp_path / 'victim').write_bytes(b'dear')
    os.symlink(str(tmp_path / 'victim'), str(tmp_path / f'.file.{os.getpid()}.tmp'))
    names = set()
    for _ in range(2):
        with files.replacing(tmp_path / 'file') as opened:
            names.add(os.path.basename(opened.name))
            opened.write(b'new')
    assert (tmp_path / 'victim').read_bytes() == b'dear' and not (tmp_path / 'file').is_symlink()
    assert len(names) == 2 and all(name.startswith('.file.') and name.endswith('.tmp') for name in names)


@pytest.mark.skipif(os.name == 'nt', reason='links are for administrators there')
def test_a_link_gives_way_and_what_it_points_to_stays(tmp_path):
    (tmp_path / 'elsewhere').write_bytes(b'old')
    os.symlink(str(tmp_path / 'elsewhere'), str(tmp_path / 'file'))
    write(tmp_path / 'file')
    assert not (tmp_path / 'file').is_symlink() and (tmp_path / 'file').read_bytes() == b'new'
    assert (tmp_path / 'elsewhere').read_bytes() == b'old'


@pytest.mark.skipif(os.name == 'nt', reason='there are no such permissions there')
@pytest.mark.parametrize('mask', [0o022, 0o077])
def test_it_has_the_permissions_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        write(tmp_path / 'file')
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'file').stat().st_mode) == 0o666 & ~mask


def test_a_name_may_be_as_long_as_the_file_system_has_them(tmp_path):
    write(tmp_path / ('x' * 250))
    write(tmp_path / ('é' * 120))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.fixture
def held(mocker):
    """Files that cannot be replaced until an event is set, as on Windows while another process reads them."""
    released, replace = threading.Event(), os.replace

    def refused(*names):
        if not released.is_set():
            raise PermissionError(13, 'Permission denied')
        replace(*names)
    mocker.patch.object(files.os, 'replace', refused)
    mocker.patch.object(files, 'READERS_BLOCK_REPLACING', True)
    return released


def test_a_reader_is_waited_for(tmp_path, held):
    threading.Timer(0.1, held.set).start()
    write(tmp_path / 'file')
    assert (tmp_path / 'file').read_bytes() == b'new'


def test_but_not_for_ever(tmp_path, held, mocker):
    mocker.patch.object(files, 'PATIENCE', 0.1)
    with pytest.raises(PermissionError):
        write(tmp_path / 'file')
    assert list(tmp_path.iterdir()) == []
