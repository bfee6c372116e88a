"""`perdure serve`: what it loads, what it refuses, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.commandline import LIMIT_S, CommandLine, end, reach
from tests.process.serving import Served, serving


@pytest.fixture
def perdure(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def test_a_service_executes_what_is_started_over_http(perdure: CommandLine) -> None:
    with serving(perdure, "flows.py") as service:
        assert {"nap", "who"} <= set(service.began["workflows"])
        service.start("nap", "n")
        assert service.reaches("n", "completed")["output"] == "rested"
        service.start("who", "w")
        service.reaches("w", "waiting")
        assert service("POST", "/runs/w/answer", {"value": "Ada"})[0] == 202
        assert service.reaches("w", "completed")["output"] == "Ada"
        ended = end(service.process)
    assert ended.code == 0
    assert json.loads(ended.out) == {"event": "ended"}
    assert perdure("verify", "--all").code == 0


def test_the_token_is_told_once_and_kept_for_its_owner_alone(perdure: CommandLine) -> None:
    with perdure.started("serve", "--port", "0") as process:
        assert process.stdout is not None
        url = process.stdout.readline()
        reach(process, "Ctrl-C stops it")
        ended = end(process, signal.SIGINT)
    token = (perdure.folder / ".perdure/runs.db.server/token").read_text()
    assert url.endswith(f"/#token={token}\n")
    assert token not in ended.out + ended.err
    folder = perdure.folder / ".perdure/runs.db.server"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
    with serving(perdure) as service:
        assert service.token == token


def test_without_keys_everybody_on_this_machine_may_ask_and_is_warned(perdure: CommandLine) -> None:
    with serving(perdure, "flows.py", "--no-auth") as service:
        assert "token" not in service.began["url"]
        assert service("GET", "/runs", token="none at all")[0] == 200
        ended = end(service.process)
    assert "--no-auth" in ended.err


def test_a_port_that_is_taken_is_told(perdure: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = perdure("serve", "--port", str(taken.getsockname()[1]), code=2)
    assert "in use" in refused.err
    assert not (perdure.folder / ".perdure").exists()


def test_a_store_that_cannot_be_used_is_told(perdure: CommandLine) -> None:
    perdure("run", "flows.py:nap", "--id", "n")
    file = perdure.folder / ".perdure/runs.db"
    content = file.read_bytes()
    file.write_bytes(content[:100] + b"\x00" * 4000 + content[4100:])
    damaged = perdure("serve", "--port", "0", "--json", code=1)
    assert json.loads(damaged.err)["error"]["code"] == "store_corrupt"
    assert not (perdure.folder / ".perdure/runs.db.server").exists()


def test_a_folder_that_cannot_be_written_is_told(perdure: CommandLine) -> None:
    """A file lies where the folder should be: nobody's rights matter, those of root neither."""
    (perdure.folder / ".perdure").write_text("a file")
    refused = perdure("serve", "--port", "0", "--json", code=None)
    assert refused.code in (1, 2)
    assert json.loads(refused.err)["error"]["code"].startswith("store_")


def test_without_its_libraries_the_service_says_what_to_install(perdure: CommandLine) -> None:
    program = (
        "import sys\nsys.modules['uvicorn'] = None\n"
        "from perdure.cli.application import invoke\nsys.exit(invoke(['serve', '--json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=perdure.folder, env=perdure.environ, capture_output=True, text=True
    )
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["code"]) == (2, "server_extra_missing")
    assert "perdure[server]" in error["hint"]


def test_more_runs_than_may_be_executed_stay_pending(perdure: CommandLine) -> None:
    """A run that only waits for a person or a timer takes no place."""
    with serving(perdure, "flows.py", "--max-runs", "1") as service:
        for run_id in ("w1", "w2", "w3"):
            service.start("who", run_id)
        for run_id in ("w1", "w2", "w3"):
            service.reaches(run_id, "waiting")
        service.start("job", "j1")
        reach(service.process, "AT write 2")
        service.start("nap", "n1")
        assert service.get("/runs/n1")["status"] == "pending"
        assert service.get("/runs/j1")["status"] == "running"
        assert service("POST", "/runs/j1/cancel", {})[0] == 202
        service.reaches("j1", "cancelled")
        service.reaches("n1", "completed")


def test_a_second_signal_leaves_at_once_and_nothing_is_lost(perdure: CommandLine) -> None:
    with serving(perdure, "flows.py") as service:
        service.start("job", "j")
        reach(service.process, "AT write 2")
        service.process.send_signal(signal.SIGTERM)
        reach(service.process, "once more to leave at once")
        assert end(service.process).code == 128 + signal.SIGTERM
    perdure.go()
    with serving(perdure, "flows.py") as service:
        service.reaches("j", "completed")
    assert perdure.effects().count("write 1") == 1


def test_a_socket_may_be_handed_down_and_ends_with_standard_input(perdure: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = subprocess.Popen(
            [sys.executable, "-m", "perdure", "serve", "--fd", str(listening.fileno()), "--until-eof", "--json"],
            cwd=perdure.folder,
            env=perdure.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=(listening.fileno(),),
        )
        try:
            service = Served(process)
            assert service.url.endswith(f":{listening.getsockname()[1]}")
            assert service.get("/healthz") == {"status": "ok"}
            out, err = process.communicate(timeout=LIMIT_S)  # it closes standard input
            assert (process.returncode, json.loads(out)) == (0, {"event": "ended"}), err
        finally:
            process.kill()
            process.communicate()


def test_other_names_and_origins_are_served_where_they_were_named(perdure: CommandLine) -> None:
    named = ("--allow-host", "runs.example", "--allow-origin", "https://console.example")
    with serving(perdure, *named) as service:
        host, _, port = service.url.removeprefix("http://").partition(":")
        for name, status in (("runs.example", b"200"), ("other.example", b"400")):
            with socket.create_connection((host, int(port))) as line:
                line.sendall(f"GET /healthz HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n".encode())
                assert line.makefile("rb").readline().split()[1] == status


def test_all_addresses_are_served_to_those_who_ask_for_a_given_name(perdure: CommandLine) -> None:
    with serving(perdure, "--host", "0.0.0.0", "--expose") as service:
        assert service.url.startswith("http://127.0.0.1:")
        assert service.get("/runs") == {"runs": [], "next_cursor": None}
        ended = end(service.process)
    assert "--allow-host" in ended.err
