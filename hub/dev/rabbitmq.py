"""A private RabbitMQ node: on loopback, with its own user, cookie and port mapper, its data in one directory.

The node is started by the package's own `rabbitmq-server`, never by Debian's wrapper in /usr/sbin: that one insists on
root and on the data of the system's broker.
"""

import base64
import http.client
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from hub.dev.processes import DevError, Process, end_leftovers, free_ports

PACKAGE = "rabbitmq-server"

_USER = "truc"
_START_TIMEOUT_S = 90
_CTL_TIMEOUT_S = 60
_FILES = 200_000
"""How many files it counts with, whatever this machine allows: it reserves three for each quorum queue and opens few."""
_HELLO = b"AMQP\x00\x00\x09\x01"


def find_binaries() -> Path | None:
    """Return the directory of RabbitMQ's own scripts, None when RabbitMQ or Erlang is not installed."""
    if shutil.which("erl") is None or shutil.which("epmd") is None:
        return None
    packaged = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    if packaged:
        return packaged[-1].parent
    in_path = shutil.which("rabbitmq-server")
    scripts = Path(in_path).resolve().parent if in_path else None
    return scripts if scripts and (scripts / "rabbitmq-env").exists() else None


class PrivateRabbitMQ:
    """One private node with the management plugin; the user `truc` administers it from loopback only.

    The data stay in the directory until `remove`.

    Args:
        directory: Where data, log, cookie and password live; made when missing.
        plugins: Further plugins to enable.
        joins: A node that has started, whose cluster a new node joins; its port mapper and its secrets are shared.
        number: Tells the nodes of a cluster apart.
        tick_s: How often each quorum queue says how many messages it has, seconds. Every five seconds, as by default,
            12,000 of them keep most of a core busy.

    Attributes:
        name: What Erlang knows the node by.
        directory: The same, absolute.
        epmd_port: Of the port mapper, which the nodes of a cluster share.
    """

    def __init__(
        self,
        directory: Path = Path(".truc/rabbitmq"),
        *,
        plugins: Sequence[str] = (),
        joins: "PrivateRabbitMQ | None" = None,
        number: int = 1,
        tick_s: int = 5,
    ) -> None:
        self.directory = directory.absolute()
        self._joins = joins
        self.name = f"truc{number}@localhost"
        self._tick_s = tick_s
        self._plugins = ("rabbitmq_management", *plugins)
        self._amqp_port, self._management_port, self._distribution_port, self.epmd_port = free_ports(4)
        if joins is not None:
            self.epmd_port = joins.epmd_port
        self._epmd: Process | None = None
        self._node: Process | None = None

    @property
    def amqp_url(self) -> str:
        """The URL of the default vhost, for the administrator."""
        return f"amqp://{_USER}:{self._password}@127.0.0.1:{self._amqp_port}/"

    @property
    def management_url(self) -> str:
        """The root of the management API, with user and password."""
        return f"http://{_USER}:{self._password}@127.0.0.1:{self._management_port}"

    @property
    def pid(self) -> int:
        """The process id of the Erlang machine.

        Raises:
            DevError: When it does not run.
        """
        if self._node is None:
            raise DevError("RabbitMQ does not run.")
        return self._node.pid

    def start(self) -> None:
        """Start the node; return when it accepts AMQP connections and answers on its management port.

        Raises:
            DevError: When RabbitMQ is not installed or does not start.
        """
        if self._node is not None and self._node.running:
            return
        scripts = self._scripts()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        end_leftovers(self.directory)
        if self._joins is not None:
            self._share_secrets(self._joins)
        self._write_configuration()
        if self._joins is None:
            self._start_epmd()
        self._node = Process("rabbitmq", self.directory, grace_s=20)
        self._node.start([str(scripts / "rabbitmq-server")], self._environment())
        self._node.wait_until(self._speaks_amqp, timeout_s=_START_TIMEOUT_S)
        self._node.wait_until(self._management_answers, timeout_s=_START_TIMEOUT_S)

    def stop(self) -> None:
        """Shut the node down in order, then its port mapper. Nothing happens when they do not run."""
        for process in (self._node, self._epmd):
            if process is not None:
                process.stop()

    def kill(self) -> None:
        """Kill the node with SIGKILL; the port mapper stays.

        Raises:
            DevError: When the node does not run.
        """
        if self._node is None:
            raise DevError("RabbitMQ does not run.")
        self._node.kill()

    def restart(self) -> None:
        """Start again on the same data and ports, after `kill` or `stop` or while running."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """End the node and delete its directory."""
        if self._node is not None and self._node.running:
            self._node.kill()  # An orderly shutdown takes seconds, and there is nothing left to keep in order.
        self.stop()
        if self.directory.exists():
            end_leftovers(self.directory)
            shutil.rmtree(self.directory)

    def ctl(self, *args: str) -> str:
        """Run `rabbitmqctl` on this node and return what it printed.

        Raises:
            DevError: When the node does not run, or refuses the command.
        """
        if self._node is None or not self._node.running:
            raise DevError("RabbitMQ does not run.")  # And rabbitmqctl would leave a port mapper of its own behind.
        try:
            done = subprocess.run(
                [str(self._scripts() / "rabbitmqctl"), "--quiet", "--node", self.name, *args],
                env=self._environment(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_CTL_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise DevError(f"rabbitmqctl {args[0]} took longer than {_CTL_TIMEOUT_S} s.") from error
        if done.returncode != 0:
            raise DevError(f"rabbitmqctl {args[0]} failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _password(self) -> str:
        return (self.directory / "password").read_text()

    @staticmethod
    def _scripts() -> Path:
        scripts = find_binaries()
        if scripts is None:
            raise DevError(f"RabbitMQ is not installed: install the package {PACKAGE}.")
        return scripts

    def _write_configuration(self) -> None:
        password_file = self.directory / "password"
        if not password_file.exists():
            password_file.touch(mode=0o600)
            password_file.write_text(secrets.token_hex(16))
        configuration = {
            "listeners.tcp.1": f"127.0.0.1:{self._amqp_port}",
            "management.tcp.ip": "127.0.0.1",
            "management.tcp.port": self._management_port,
            "default_user": _USER,
            "default_pass": self._password,
            "default_user_tags.administrator": "true",
            f"loopback_users.{_USER}": "true",
            "channel_max": 64,
            "max_message_size": 16 * 1024 * 1024,
            "log.console.level": "warning",
            "queue_leader_locator": "balanced",
            "raft.wal_max_size_bytes": 64_000_000,  # else mail waits while half a gigabyte goes to the queues' files
        }
        if self._joins is not None:
            configuration |= {
                "cluster_formation.peer_discovery_backend": "classic_config",
                "cluster_formation.classic_config.nodes.1": self._joins.name,
                "cluster_formation.classic_config.nodes.2": self.name,
            }
        lines = "".join(f"{key} = {value}\n" for key, value in configuration.items())
        (self.directory / "rabbitmq.conf").write_text(lines)
        (self.directory / "advanced.config").write_text(
            f"[{{rabbit, [{{quorum_tick_interval, {self._tick_s * 1000}}}, {{file_handles_high_watermark, {_FILES}}}]}}].\n"
        )
        (self.directory / "rabbitmq-env.conf").write_text("")
        (self.directory / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")

    def _share_secrets(self, other: "PrivateRabbitMQ") -> None:
        for name in ("password", ".erlang.cookie"):
            secret = self.directory / name
            if not secret.exists():
                secret.touch(mode=0o600)
                secret.write_bytes((other.directory / name).read_bytes())
                secret.chmod(0o400)

    def _start_epmd(self) -> None:
        # In the foreground and before the node: an epmd started by Erlang detaches itself and outlives the node.
        if self._epmd is not None and self._epmd.running:
            return
        epmd = shutil.which("epmd")
        assert epmd is not None
        self._epmd = Process("epmd", self.directory, grace_s=2)
        self._epmd.start([epmd, "-port", str(self.epmd_port), "-address", "127.0.0.1"], self._environment())
        self._epmd.wait_until(lambda: _listens(self.epmd_port), timeout_s=10)

    def _environment(self) -> dict[str, str]:
        own = str(self.directory)
        return {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "HOME": own,  # Holds the Erlang cookie.
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_BYTES": "0",
            "RUNNING_UNDER_SYSTEMD": "true",  # The script then becomes the Erlang machine instead of waiting for it.
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._amqp_port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": f"{own}/mnesia",
            "RABBITMQ_LOG_BASE": f"{own}/log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": f"{own}/node.id",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{own}/enabled_plugins",
            "RABBITMQ_CONFIG_FILE": f"{own}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{own}/advanced.config",
            "RABBITMQ_CONF_ENV_FILE": f"{own}/rabbitmq-env.conf",
            # Unbound: several nodes may share these cores.
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false",
        }

    def _speaks_amqp(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._amqp_port), timeout=2) as connection:
                connection.sendall(_HELLO)
                return connection.recv(1) == b"\x01"  # A method frame: connection.start.
        except OSError:
            return False

    def _management_answers(self) -> bool:
        credentials = base64.b64encode(f"{_USER}:{self._password}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self._management_port, timeout=5)
        try:
            connection.request("GET", "/api/whoami", headers={"Authorization": f"Basic {credentials}"})
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
