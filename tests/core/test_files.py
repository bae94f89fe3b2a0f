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


@pytest.mark.skipif(os.name == 'nt', reason='there is no limit of the size of files there')
def test_a_file_that_does_not_fit_leaves_nothing_behind(tmp_path):
    from disks import full
    write(tmp_path / 'file', b'old')
    for size in (10 ** 3, 10 ** 6):  # in the buffer of Python, which is written at the end, and beyond
        with pytest.raises(OSError, match='File too large'), full():
            write(tmp_path / 'file', b'x' * size)
    assert (tmp_path / 'file').read_bytes() == b'old' and [file.name for file in tmp_path.iterdir()] == ['file']


def test_what_must_not_be_lost_is_tried_again_for_a_while(tmp_path, mocker, caplog):
    mocker.patch.object(files, 'DISK_PATIENCE', 0.4)
    threading.Timer(0.1, (tmp_path / 'folder').mkdir).start()
    files.persistently(lambda: write(tmp_path / 'folder' / 'file'), 'The file')
    assert (tmp_path / 'folder' / 'file').read_bytes() == b'new'
    assert 'The file cannot be written: [Errno 2] No such file' in caplog.text
    with pytest.raises(FileNotFoundError):
        files.persistently(lambda: write(tmp_path / 'elsewhere' / 'file'), 'The file')


@pytest.fixture
def held(mocker):
    """Files that cannot be opened and replaced until an event is set, as on Windows while another process has them."""
    released, calls = threading.Event(), {files.os: ('replace', os.replace), files: ('open', open)}

    def refusing(call):
        def refused(*arguments):
            if not released.is_set() and arguments[-1] != 'xb':
                raise PermissionError(13, 'Permission denied', arguments[0])
            return call(*arguments)
        return refused
    for module, (name, call) in calls.items():
        mocker.patch.object(module, name, refusing(call), create=True)
    mocker.patch.object(files, 'OPEN_FILES_ARE_HELD', True)
    return released


def test_other_processes_are_waited_for(tmp_path, held):
    threading.Timer(0.1, held.set).start()
    write(tmp_path / 'file')
    held.clear()
    threading.Timer(0.1, held.set).start()
    assert files.read(tmp_path / 'file', 10) == b'new'


def test_but_not_for_ever(tmp_path, held, mocker):
    mocker.patch.object(files, 'PATIENCE', 0.1)
    for call in (lambda: write(tmp_path / 'file'), lambda: files.read(tmp_path / 'file', 10)):
        with pytest.raises(PermissionError, match=r'Permission denied for 0.1 seconds: close the programs .*file'):
            call()
    assert list(tmp_path.iterdir()) == []
