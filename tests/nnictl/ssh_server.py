"""An SSH server on the loopback with two "machines", 127.0.0.1 and 127.0.0.2, whose users have temporary homes."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

SSHD = shutil.which('sshd', path=f'{os.environ["PATH"]}:/usr/sbin')
HOSTS = ('127.0.0.1', '127.0.0.2')

CONFIG = """\
Port {port}
{listen}
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/key.pub
PasswordAuthentication no
PermitRootLogin yes
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
"""


class SshServer:
    """The folder must be new. ``home(host)`` is the home of the user there; ``variables`` are set in every session."""

    def __init__(self, folder, variables):
        self.folder, self.user = folder, getpass.getuser()
        self.key = folder / 'key'
        folder.mkdir()
        for name in ('host_key', 'key'):  # of the only kind that the SSH client of every NNI knows and today's servers accept
            subprocess.run(['ssh-keygen', '-q', '-t', 'ecdsa', '-m', 'PEM', '-N', '', '-f', str(folder / name)], check=True)
        with socket.socket() as probe:
            probe.bind((HOSTS[0], 0))
            self.port = probe.getsockname()[1]
        config = CONFIG.format(port=self.port, folder=folder, listen='\n'.join(f'ListenAddress {host}' for host in HOSTS))
        for host in HOSTS:
            self.home(host).mkdir()
            env = {**variables, 'HOME': self.home(host)}
            config += f'Match LocalAddress {host}\n    SetEnv {" ".join(f"{name}={value}" for name, value in env.items())}\n'
        (folder / 'sshd_config').write_text(config)

    def home(self, host):
        return self.folder / host

    @contextlib.contextmanager
    def running(self):
        separation = Path('/run/sshd')  # without systemd nobody has made it
        made = os.getuid() == 0 and not separation.exists()
        if made:
            separation.mkdir(mode=0o755)
        server = subprocess.Popen([SSHD, '-D', '-f', str(self.folder / 'sshd_config'), '-E', str(self.folder / 'sshd.log')],
                                  env={'PATH': os.environ['PATH']})
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex((HOSTS[-1], self.port)) == 0:
                        break
                assert server.poll() is None, (self.folder / 'sshd.log').read_text()
                time.sleep(0.05)
            log = self.folder / 'sshd.log'
            entered = subprocess.run(['ssh', *self.options(), f'{self.user}@{HOSTS[0]}', 'true'], stdin=subprocess.DEVNULL)
            if entered.returncode != 0 and 'account is locked' in log.read_text():  # without PAM, which needs root
                pytest.skip(f'sshd does not let {self.user} in: {log.read_text()}')
            assert entered.returncode == 0, log.read_text()
            yield self
        finally:
            server.terminate()
            server.wait(10)
            if made:
                separation.rmdir()

    def options(self):
        """The options of ssh and scp for this server."""
        return ['-i', str(self.key), '-o', 'StrictHostKeyChecking=no', '-o', f'UserKnownHostsFile={self.folder}/known_hosts',
                '-o', 'LogLevel=ERROR', '-o', f'Port={self.port}']
